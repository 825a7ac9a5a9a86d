// The page around the choices; run once when it has loaded.
() => {
  // On a phone the choices fold away above the grid.
  if (window.innerWidth <= 1000) document.querySelector("#choices > button.open")?.click();

  // While one types a class, Gradio marks the first menu entry that holds the text anywhere, and Enter
  // takes the marked one: "cup" would become a porcupine. Only arrow keys choose from the menu; without
  // them the field hands over what was typed, as it does when one leaves it, and the server looks for
  // the class of that name.
  let typed = false, entered = false;
  const isClassField = (event) => event.target.matches?.("#class input");
  document.addEventListener("input", (event) => {
    if (isClassField(event)) typed = true;
  }, true);
  document.addEventListener("keydown", (event) => {
    if (!isClassField(event) || event.isComposing) return;
    if (["ArrowDown", "ArrowUp", "Home", "End"].includes(event.key)) typed = false;
    // The open menu scrolls, which would make it a stop of its own on the way to the next field.
    if (event.key === "Tab") classMenu()?.setAttribute("tabindex", "-1");
    if (event.key !== "Enter" || !typed) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    event.target.blur();
  }, true);
  document.addEventListener("focusout", (event) => {
    if (isClassField(event)) typed = false;
  }, true);

  // Who goes to the field means another class: what stands there is selected, so that typing replaces it.
  document.addEventListener("focusin", (event) => {
    if (!isClassField(event)) return;
    entered = true;
    event.target.select();
  }, true);
  document.addEventListener("mouseup", (event) => {
    if (entered && isClassField(event)) {
      event.preventDefault();
      event.target.select();
    }
    entered = false;
  }, true);

  // Enter on a typed backbone takes the menu's entry of that name, or the only one that is left. Gradio would
  // add the text as it stands, even a part of a name, and report no input; what is not in the menu it may add.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing || !event.target.matches?.("#backbones input, #erf-backbones input")) return;
    const field = event.target.closest("#backbones, #erf-backbones"), typed = event.target.value.trim();
    const options = [...field.querySelectorAll("[role=option]")];
    const meant = options.find((option) => option.ariaLabel === typed) ?? (options.length === 1 ? options[0] : null);
    if (!typed || meant?.ariaSelected === "true" || options.some((option) => option.matches(".active"))) return;
    if (meant) {
      event.preventDefault();
      event.stopImmediatePropagation();
      meant.dispatchEvent(new MouseEvent("mousedown", { bubbles: true, cancelable: true }));
    } else if (field.id === "backbones") {
      setTimeout(() => document.querySelector("#explain").click(), 200);
    }
  }, true);

  // Gradio opens the menu again when the server renews it, though the field was left meanwhile.
  const classMenu = () => document.querySelector("#class ul[role=listbox]");
  const closeLeftMenu = () => {
    const field = document.querySelector("#class input");
    if (classMenu() && document.activeElement !== field) field.dispatchEvent(new FocusEvent("blur"));
  };
  new MutationObserver(closeLeftMenu).observe(document.querySelector("#class"), { childList: true, subtree: true });
}
