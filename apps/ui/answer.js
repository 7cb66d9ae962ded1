// An answer: sentences with a chip for each citation, or what an abstention shows. All of it is text from outside and
// is put on the page as text.

const chip = (place, tone, selected, choose) => {
  const button = made("button", `chip ${tone}${place.index === selected ? " selected" : ""}`, place.label);
  button.type = "button";
  button.title = place.title;
  button.setAttribute("aria-label", place.title);
  button.setAttribute("aria-pressed", String(place.index === selected));
  button.addEventListener("click", () => choose(place.index, button));
  return button;
};

const copyText = async (text) => {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // The clipboard is for secure origins; a server that is reached by http is none.
    const area = made("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
};

export default function ({ data, parentElement, setTriggerValue }) {
  parentElement.querySelector(".answer")?.remove();
  const root = made("div", data.abstained ? "answer abstained" : "answer");
  const choose = (index, button) => {
    root.querySelectorAll(".chip.selected").forEach((other) => other.classList.remove("selected"));
    button.classList.add("selected"); // at once, before the server has answered
    setTriggerValue("place", index);
  };

  if (data.said) root.append(made("p", "said", data.said));
  for (const sentence of data.sentences) {
    const line = made("p");
    line.append(made("span", `sentence ${sentence.support}`, sentence.text), " ");
    for (const place of sentence.places) line.append(chip(place, sentence.support, data.selected, choose));
    if (sentence.remark) {
      const remark = made("span", `verdict ${sentence.support}`, sentence.remark);
      remark.title = sentence.reason;
      line.append(remark);
    }
    root.append(line);
  }
  for (const note of data.notes) root.append(made("p", "note", note));
  if (data.nearest.length) {
    root.append(made("div", "note", data.words.nearest));
    const near = made("div", "near");
    for (const place of data.nearest) near.append(chip(place, "place", data.selected, choose));
    root.append(near);
  }

  const foot = made("div", "foot note");
  if (data.sure) {
    const sure = made("span", "", data.sure);
    sure.title = data.words.sure;
    foot.append(sure);
  }
  const copy = made("button", "link", data.words.copy);
  copy.type = "button";
  copy.addEventListener("click", async () => {
    await copyText(data.markdown);
    copy.textContent = data.words.copied;
    setTimeout(() => (copy.textContent = data.words.copy), 1500);
  });
  foot.append(copy);
  for (const asked of data.rewritten ? ["why", "typed"] : ["why"]) {
    const link = made("button", "link", data.words[asked]);
    link.type = "button";
    link.addEventListener("click", () => setTriggerValue(asked, true));
    foot.append(link);
  }
  root.append(foot);
  parentElement.append(root);
}
