// Stands before the script of every component. Text from outside is put on a page by this and in no other way: as text.

const made = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

