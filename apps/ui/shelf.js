// Documents as cards. Names and titles are text from outside and are put on the page as text.

export default function ({ data, parentElement, setTriggerValue }) {
  const focused = parentElement.getRootNode().activeElement?.dataset.focus;
  parentElement.querySelector(".shelf")?.remove();
  const shelf = made("div", "shelf");
  for (const card of data.cards) {
    const place = made("div", card.ticked ? "card ticked" : "card");

    const open = made("button", "open");
    open.type = "button";
    open.dataset.focus = `open ${card.id}`;
    open.title = card.title ? `${card.name}\n${card.title}` : card.name;
    open.setAttribute("aria-label", `${data.words.open}: ${card.name}`);
    open.addEventListener("click", () => {
      place.classList.add("opening"); // at once, before the server has answered
      setTriggerValue("open", card.id);
    });
    const picture = made("div", "picture");
    if (card.image) {
      const image = made("img");
      image.alt = "";
      image.src = card.image;
      picture.append(image);
    }
    open.append(picture, made("div", "name", card.name));
    if (card.title) open.append(made("div", "title", card.title));
    open.append(made("div", "facts", card.facts));

    const tick = made("input", "tick");
    tick.type = "checkbox";
    tick.checked = card.ticked;
    tick.dataset.focus = `tick ${card.id}`;
    tick.title = data.words.tick;
    tick.setAttribute("aria-label", `${data.words.tick}: ${card.name}`);
    tick.addEventListener("change", () => {
      place.classList.toggle("ticked", tick.checked);
      setTriggerValue("tick", card.id);
    });
    place.append(open, tick);
    shelf.append(place);
  }
  parentElement.append(shelf);
  if (focused) [...shelf.querySelectorAll("[data-focus]")].find((each) => each.dataset.focus === focused)?.focus();
}
