// The pages around the one that is shown, small.

export default function ({ data, parentElement, setTriggerValue }) {
  parentElement.querySelector(".strip")?.remove();
  const strip = document.createElement("div");
  strip.className = "strip";
  let shown = null;
  for (const page of data.pages) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = page.number === data.shown ? "shown" : "";
    button.title = page.title;
    button.setAttribute("aria-label", page.title);
    if (page.number === data.shown) {
      button.setAttribute("aria-current", "page");
      shown = button;
    }
    if (page.image) {
      const image = document.createElement("img");
      image.alt = "";
      image.src = page.image;
      button.append(image);
    }
    const number = document.createElement("span");
    number.textContent = page.number;
    button.append(number);
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
