"""What the app's look adds to the theme: its own rules of style and its icon. Nothing is loaded from anywhere."""

from functools import cache

from PIL import Image, ImageDraw


@cache
def favicon() -> Image.Image:
    """A page with a marked line."""
    icon = Image.new("RGBA", (64, 64))
    draw = ImageDraw.Draw(icon)
    draw.rounded_rectangle((10, 4, 54, 60), radius=7, fill="#0B6E8A")
    for y, right, colour in ((16, 44, "white"), (28, 44, "#FFD94A"), (40, 36, "white")):
        draw.rounded_rectangle((19, y, right, y + 6), radius=3, fill=colour)
    return icon


STYLE = """
.block-container { padding: 3.2rem 2.2rem 1rem }
[data-testid="stBottomBlockContainer"] { padding: 1rem 2.2rem 1.6rem }
/* The cited page stays in view while the conversation is scrolled. */
[data-testid="stColumn"]:has([class*="st-key-beside"]) { position: sticky; top: 3.6rem; align-self: flex-start }
.st-key-steps { flex-wrap: nowrap }
.st-key-steps button p { font-size: 0 }
.st-key-steps > :first-child { flex: 1 1 auto; min-width: 0 }
[class*="st-key-beside"] blockquote { margin: 0 }
@media (max-width: 40rem) {
  .st-key-beside-unasked { display: none }
  /* No room beside the conversation: the page lies over its lower part. */
  .st-key-beside { position: fixed; inset: auto 0 0 0; z-index: 1000; max-height: 72vh; overflow: auto;
                   padding: .75rem .75rem 7.5rem;
                   background: var(--st-background-color, Canvas); border-top: 1px solid #8885;
                   box-shadow: 0 -8px 24px #0004 }
}
"""
