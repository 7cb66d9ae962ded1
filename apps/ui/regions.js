// What was read on a page, region by region. All of it is text from outside and is put on the page as text.

export default function ({ data, parentElement, setTriggerValue }) {
  const before = parentElement.querySelector(".regions");
  const scrolled = before && before.dataset.page === String(data.page) ? before.scrollTop : 0;
  const hadFocus = before?.contains(parentElement.getRootNode().activeElement);
  before?.remove();
  const list = made("ol", "regions");
  list.dataset.page = data.page;
  let active = null;
  for (const region of data.regions) {
    const item = made("li");
    const button = made("button", region.id === data.active ? "active" : "");
    button.type = "button";
    button.setAttribute("aria-pressed", String(region.id === data.active));
    button.append(made("span", "kind", region.kind));
    if (region.text) button.append(made("span", "text", region.text));
    for (const remark of region.generated) button.append(made("span", "generated", remark));
    button.addEventListener("click", () => {
      list.querySelector(".active")?.classList.remove("active");
      button.classList.add("active"); // at once, before the server has answered
      setTriggerValue("region", region.id);
    });
    if (region.id === data.active) active = button;
    item.append(button);
    list.append(item);
  }
  parentElement.append(list);
  list.scrollTop = scrolled;
  if (!active) return;
  const [head, foot] = [active.offsetTop, active.offsetTop + active.offsetHeight];
  if (head < list.scrollTop || foot > list.scrollTop + list.clientHeight) list.scrollTop = head - 12;
  if (hadFocus) active.focus({ preventScroll: true });
}
