"use strict";
// The small curve under a map: how good its box is at every threshold.

/** @returns {number} Index of the highest value; the first of equals. */
function indexOfHighest(values) {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

/** A curve over 256 levels; its horizontal axis is the map's own colour bar. */
class Curve {
  /** @param {{lowest: number, highest: number}} map - The raw range, written under the axis. */
  constructor(map) {
    this.area = makeSvg("path", { class: "wv-curve-area" });
    this.line = makeSvg("path", { class: "wv-curve-line" });
    this.mark = make("div", { class: "wv-curve-mark" });
    this.oracleMark = makeSvg("path", { class: "wv-curve-oracle" });
    const plot = makeSvg("svg", {
      class: "wv-plot", viewBox: "0 0 255 100", preserveAspectRatio: "none", "aria-hidden": "true",
    }, makeSvg("path", { class: "wv-curve-grid", d: "M0 50H255M0 0H255" }),
    this.area, this.line, this.oracleMark);
    this.dot = make("span", { class: "wv-curve-dot", hidden: true });
    this.bar = make("div", { class: "wv-bar" });
    this.title = make("span", {});
    this.oracleName = make("span", {});
    this.oracleValue = make("span", {});
    this.oracle = make("p", { class: "wv-oracle" }, this.oracleName, this.oracleValue);
    const range = make("div", { class: "wv-range", title: "The map’s lowest and highest raw value" },
      make("span", {}, formatNumber(map.lowest)),
      make("span", { class: "wv-curve-title" }, this.title,
        make("span", { class: "wv-wide" }, " by threshold")),
      make("span", {}, formatNumber(map.highest)));
    this.element = make("div", { class: "wv-curve" },
      make("div", { class: "wv-plot-area" }, plot, this.mark, this.dot), this.bar, range, this.oracle);
  }

  /**
   * @param {Float64Array} values - One in [0,1] for each level.
   * @param {boolean} isIoU - Whether they are IoU, and have a best one, or shares of the image.
   * @param {number} highest - The map's highest level, where the threshold is 1.
   */
  show(values, isIoU, highest) {
    let path = `M0 ${100 - 100 * values[0]}`;
    for (let level = 1; level < 256; level++) {
      path += `L${level} ${Number((100 - 100 * values[level]).toFixed(2))}`;
    }
    this.line.setAttribute("d", path);
    this.area.setAttribute("d", `${path}V100H0Z`);
    setText(this.title, isIoU ? "IoU" : "box share");
    this.element.classList.toggle("wv-is-share", !isIoU);
    this.#showOracle(isIoU ? values : null, highest);
  }

  /** Mark the best threshold on this one photo; it is no threshold of a data set. */
  #showOracle(values, highest) {
    const level = values ? indexOfHighest(values) : 0;
    const found = values !== null && values[level] > 0 && highest > 0;
    this.dot.hidden = !found;
    setAttribute(this.oracleMark, "d", found ? `M${level} 100V${100 - 100 * values[level]}` : "");
    this.oracle.classList.toggle("wv-is-empty", !found);
    setText(this.oracleName, found ? "oracle here" : values ? "no box here meets the true one" : "IoU needs a true box");
    setText(this.oracleValue, "");
    this.oracle.removeAttribute("title");
    if (!found) return;
    this.dot.style.left = `${(100 * level) / 255}%`;
    this.dot.style.top = `${100 - 100 * values[level]}%`;
    const threshold = (level / highest).toFixed(2);
    setText(this.oracleValue, `${threshold} → ${values[level].toFixed(3)}`);
    this.oracle.title = "The threshold that suits this map on this photo best, found with the true "
      + "box in hand. A data set’s threshold is one for all its photos.";
  }

  /** Move the mark of the current threshold, by a transform: the curve is not drawn again. */
  moveTo(level) {
    this.mark.style.transform = `translateX(${(100 * level) / 255}%)`;
  }

  /** @param {string} gradient - CSS gradient of the map's colours, lowest to highest. */
  setColours(gradient) {
    this.bar.style.background = gradient;
  }
}
