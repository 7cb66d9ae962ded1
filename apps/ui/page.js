// A page image with its regions over it. Zooms by button, Ctrl and wheel, pinch, or double click, and is moved by dragging.

const MOST = 6;

const place = (element, [x0, y0, x1, y1]) => {
  const percent = (value) => `${(100 * value).toFixed(3)}%`;
  Object.assign(element.style, {
    left: percent(x0), top: percent(y0), width: percent(x1 - x0), height: percent(y1 - y0),
  });
};

export default function ({ data, parentElement, setTriggerValue }) {
  const before = parentElement.querySelector(".viewer");
  const kept = before?.dataset.alt === data.alt ? Number(before.dataset.zoom) : 1;
  const scroll = before?.dataset.alt === data.alt ? before.querySelector(".window") : null;
  const shown = scroll && before.dataset.shown;
  const [left, top] = scroll ? [scroll.scrollLeft, scroll.scrollTop] : [0, 0];
  before?.remove();

  const viewer = made("div", `viewer ${data.support}`);
  const window_ = made("div", "window");
  const sheet = made("div", "sheet");
  const image = made("img");
  image.alt = data.alt;
  image.src = data.image;
  image.draggable = false;
  sheet.style.aspectRatio = `1 / ${data.ratio}`;
  sheet.append(image);

  let active = null;
  for (const region of data.regions) {
    const button = made("button", region.id === data.active ? "region active" : "region");
    button.type = "button";
    button.title = `${region.kind}: ${region.text}`;
    button.setAttribute("aria-label", button.title);
    place(button, region.box);
    button.addEventListener("click", () => {
      if (moved) return;
      sheet.querySelectorAll(".region.active").forEach((other) => other.classList.remove("active"));
      button.classList.add("active");
      setTriggerValue("region", region.id);
    });
    if (region.id === data.active) active = button;
    sheet.append(button);
  }
  for (const line of data.lines) {
    const mark = made("div", "line");
    place(mark, line);
    sheet.append(mark);
  }

  let zoom = kept;
  let asked = false;
  const zoomTo = (wanted, x = window_.clientWidth / 2, y = window_.clientHeight / 2) => {
    const next = Math.min(MOST, Math.max(1, wanted));
    const [atX, atY] = [(window_.scrollLeft + x) / zoom, (window_.scrollTop + y) / zoom];
    zoom = next;
    viewer.dataset.zoom = zoom;
    sheet.style.width = `${100 * zoom}%`;
    window_.classList.toggle("grab", zoom > 1);
    window_.scrollLeft = atX * zoom - x;
    window_.scrollTop = atY * zoom - y;
    if (zoom > 1.4 && !data.sharp && !asked) {
      asked = true;
      setTriggerValue("sharpen", true);
    }
  };
  const inside = (event) => {
    const box = window_.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  window_.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // a pinch on a touchpad comes as a wheel with Ctrl
    event.preventDefault();
    zoomTo(zoom * Math.exp(-event.deltaY / 300), ...inside(event));
  }, { passive: false });
  window_.addEventListener("dblclick", (event) => zoomTo(zoom < 2 ? 2.5 : 1, ...inside(event)));

  let moved = false;
  window_.addEventListener("pointerdown", (event) => {
    moved = false;
    if (zoom === 1 || event.pointerType !== "mouse") return;
    const start = [event.clientX + window_.scrollLeft, event.clientY + window_.scrollTop];
    const [fromX, fromY] = [event.clientX, event.clientY];
    const move = (now) => {
      moved ||= Math.hypot(now.clientX - fromX, now.clientY - fromY) > 4;
      window_.classList.add("grabbing");
      window_.scrollLeft = start[0] - now.clientX;
      window_.scrollTop = start[1] - now.clientY;
    };
    const end = () => {
      window_.classList.remove("grabbing");
      document.removeEventListener("pointermove", move);
      setTimeout(() => (moved = false)); // after the click that ends a drag
    };
    document.addEventListener("pointermove", move);
    document.addEventListener("pointerup", end, { once: true });
  });

  const tools = made("div", "tools");
  for (const [sign, title, act] of [
    ["+", data.words.in, () => zoomTo(zoom * 1.5)],
    ["−", data.words.out, () => zoomTo(zoom / 1.5)],
    ["⤢", data.words.fit, () => zoomTo(1)],
  ]) {
    const button = made("button");
    button.type = "button";
    button.textContent = sign;
    button.title = title;
    button.setAttribute("aria-label", title);
    button.addEventListener("click", act);
    tools.append(button);
  }

  window_.append(sheet);
  viewer.append(window_, tools);
  viewer.dataset.alt = data.alt;
  viewer.dataset.zoom = zoom;
  parentElement.append(viewer);
  zoomTo(zoom, 0, 0);
  [window_.scrollLeft, window_.scrollTop] = [left, top];
  viewer.dataset.shown = data.active ?? "";
  if (active && shown !== data.active) { // whoever looks elsewhere meanwhile is left there
    const [head, foot] = [active.offsetTop, active.offsetTop + active.offsetHeight];
    const seen = head >= window_.scrollTop && foot <= window_.scrollTop + window_.clientHeight;
    if (!seen) window_.scrollTop = Math.max(0, (head + foot - window_.clientHeight) / 2);
  }
}
