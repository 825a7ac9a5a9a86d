// The page around the choices; run once when it has loaded.
() => {
  // On a phone the choices fold away above the grid.
  if (window.innerWidth <= 1000) document.querySelector("#choices > button.open")?.click();

  // While one types a class, Gradio marks the first menu entry that holds the text anywhere, and Enter
  // takes the marked one: "cup" would become a porcupine. Only arrow keys choose from the menu; without
  // them the field hands over what was typed, as it does when one leaves it, and the server looks for
  // the class of that name.
  let typed = false;
  const isClassField = (event) => event.target.matches?.("#class input");
  document.addEventListener("input", (event) => {
    if (isClassField(event)) typed = true;
  }, true);
  document.addEventListener("keydown", (event) => {
    if (!isClassField(event) || event.isComposing) return;
    if (["ArrowDown", "ArrowUp", "Home", "End"].includes(event.key)) typed = false;
    if (event.key !== "Enter" || !typed) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    event.target.blur();
  }, true);
  document.addEventListener("focusout", (event) => {
    if (isClassField(event)) typed = false;
  }, true);
}
