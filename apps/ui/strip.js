// The pages around the one that is shown, small.

export default function ({ data, parentElement, setTriggerValue }) {
  parentElement.querySelector(".strip")?.remove();
  const strip = made("div", "strip");
  let shown = null;
  for (const page of data.pages) {
    const button = made("button", page.number === data.shown ? "shown" : "");
    button.type = "button";
    button.title = page.title;
    button.setAttribute("aria-label", page.title);
    if (page.number === data.shown) {
      button.setAttribute("aria-current", "page");
      shown = button;
    }
    if (page.image) {
      const image = made("img");
      image.alt = "";
      image.src = page.image;
      button.append(image);
    }
    button.append(made("span", "", page.number));
    button.addEventListener("click", () => {
      strip.querySelector(".shown")?.classList.remove("shown");
      button.classList.add("shown"); // at once, before the server has answered
      setTriggerValue("page", page.number);
    });
    strip.append(button);
  }
  parentElement.append(strip);
  if (shown) strip.scrollLeft = shown.offsetLeft - (strip.clientWidth - shown.offsetWidth) / 2;
}
