// The Model zoo's buttons; the body of js_on_load. The tables may be drawn anew, the element stays.
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-backbone]");
  if (button) trigger("click", { backbone: button.dataset.backbone });
});
