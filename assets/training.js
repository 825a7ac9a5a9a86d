// The gallery of a training report: one slider chooses the epoch that all pictures are of.
(function () {
  "use strict";
  const epochs = JSON.parse(document.getElementById("epochs").textContent);
  const slider = document.getElementById("epoch");
  if (!slider) return; // no photo was drawn

  function show(index) {
    const epoch = epochs[index];
    document.getElementById("shown").textContent = epoch.title;
    slider.setAttribute("aria-valuetext", epoch.title);
    for (const place of document.querySelectorAll("[data-photo]")) {
      const photo = epoch.photos[place.dataset.photo];
      if (place.tagName === "FIGURE") {
        fill(place, photo, photo && photo.panels[place.dataset.panel]);
      } else {
        place.textContent = photo ? photo.class : "not drawn in this epoch";
      }
    }
  }

  function fill(figure, photo, picture) {
    const image = figure.querySelector("img");
    image.hidden = !picture;
    image.src = picture ? picture.src : "";
    image.alt = picture ? `${figure.dataset.panel} of ${photo.name}: ${picture.caption}` : "";
    figure.querySelector("figcaption span").textContent = picture ? picture.caption : "";
  }

  slider.addEventListener("input", () => show(slider.valueAsNumber));
  show(slider.valueAsNumber);
})();
