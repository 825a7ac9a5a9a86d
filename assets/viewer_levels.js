"use strict";
// The mask of one map at any level, as pixels: which are inside, outline or outside, and in what colour.
//
// With q the map's level (0 to 255) at a pixel and m the smallest q within the outline's width of it,
// the pixel is inside the mask for level < m, outline for m <= level < q and outside for level >= q.
// So it changes at two levels only. Sorted by both once, a move repaints nothing but what changes.

/** How much of the photo's light is taken away outside the mask. */
const OUTSIDE_DIM = 0.5;
/** The heatmap's opacity outside the mask, as a share of the one inside. */
const OUTSIDE_HEAT = 0.4;
/** White and opaque, whatever the byte order. */
const OUTLINE_COLOUR = 0xffffffff;
/** Display pixels of the map for each pixel of the outline's width: about one CSS pixel in a cell. */
const PIXELS_PER_OUTLINE = 240;

/** @returns {number} The outline's width in display pixels for a map of that size; at least 1. */
function outlineWidth(width, height) {
  return Math.max(1, Math.round(Math.max(width, height) / PIXELS_PER_OUTLINE));
}

/** @returns {Uint8Array} The bytes that a base64 text stands for. */
function decodeBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** @returns {Promise<HTMLImageElement>} The image, decoded. */
async function decodeImage(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  return image;
}

/**
 * Read an 8-bit grey PNG.
 * @param {string} source - Its data URL.
 * @returns {Promise<Uint8Array>} height × width levels, row by row.
 */
async function decodeLevels(source, width, height) {
  const image = await decodeImage(source);
  if (image.naturalWidth !== width || image.naturalHeight !== height) {
    const size = `${image.naturalWidth}×${image.naturalHeight}`;
    throw new Error(`a map of ${size} pixels came with a photo of ${width}×${height}`);
  }
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const levels = new Uint8Array(width * height);
  for (let i = 0; i < levels.length; i++) levels[i] = data[4 * i];
  return levels;
}

/** @returns {Uint8Array} At each pixel the least of itself and its 4 neighbours inside the image. */
function leastNeighbour(levels, width, height) {
  const least = new Uint8Array(levels);
  const last = width - 1;
  for (let y = 0, i = 0; y < height; y++) {
    const hasAbove = y > 0;
    const hasBelow = y < height - 1;
    for (let x = 0; x < width; x++, i++) {
      let value = levels[i];
      if (x > 0 && levels[i - 1] < value) value = levels[i - 1];
      if (x < last && levels[i + 1] < value) value = levels[i + 1];
      if (hasAbove && levels[i - width] < value) value = levels[i - width];
      if (hasBelow && levels[i + width] < value) value = levels[i + width];
      least[i] = value;
    }
  }
  return least;
}

/**
 * Sort pixels by value, by counting.
 * @param {Uint8Array} values
 * @returns {{order: Uint32Array, start: Uint32Array}} Pixel indices in rising order of value, and for
 *   each v in 0 to 256 where the values >= v begin.
 */
function sortByValue(values) {
  const start = new Uint32Array(257);
  for (let i = 0; i < values.length; i++) start[values[i] + 1]++;
  for (let v = 0; v < 256; v++) start[v + 1] += start[v];
  const next = start.slice(0, 256);
  const order = new Uint32Array(values.length);
  for (let i = 0; i < values.length; i++) order[next[values[i]]++] = i;
  return { order, start };
}

/** One map's overlay on a canvas; transparent pixels, so that the photo below shows through. */
class MaskRaster {
  /**
   * @param {HTMLCanvasElement} canvas - Gets the map's size.
   * @param {Uint8Array} levels - height × width.
   */
  constructor(canvas, levels, width, height) {
    canvas.width = width;
    canvas.height = height;
    this.levels = levels;
    this.least = levels;
    for (let i = outlineWidth(width, height); i > 0; i--) {
      this.least = leastNeighbour(this.least, width, height);
    }
    this.leaveInside = sortByValue(this.least);
    this.leaveMask = sortByValue(levels);
    this.highest = levels[this.leaveMask.order[levels.length - 1]];
    this.context = canvas.getContext("2d");
    this.image = this.context.createImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.level = 0;
  }

  /** @returns {number} The level of a threshold in [0,1], as the benchmark cuts it. */
  levelOf(threshold) {
    return Math.floor(threshold * this.highest);
  }

  /**
   * Repaint every pixel.
   * @param {{inside: Uint32Array, outside: Uint32Array}} colours - For each of 256 levels.
   */
  paint(colours, level) {
    this.colours = colours;
    this.level = level;
    const { levels, least, pixels } = this;
    const { inside, outside } = colours;
    for (let i = 0; i < pixels.length; i++) {
      const q = levels[i];
      pixels[i] = level >= q ? outside[q] : level < least[i] ? inside[q] : OUTLINE_COLOUR;
    }
    this.context.putImageData(this.image, 0, 0);
  }

  /** Repaint the pixels that change between the level shown and another one. */
  moveTo(level) {
    if (level === this.level) return;
    const low = Math.min(level, this.level);
    const high = Math.max(level, this.level);
    const { inside, outside } = this.colours;
    if (level > this.level) {
      this.#outline(this.leaveInside, low, high);
      this.#fill(this.leaveMask, low, high, outside);
    } else {
      this.#outline(this.leaveMask, low, high);
      this.#fill(this.leaveInside, low, high, inside);
    }
    this.level = level;
    this.context.putImageData(this.image, 0, 0);
  }

  /** Turn the pixels whose event lies in (low, high] into outline. */
  #outline({ order, start }, low, high) {
    const { pixels } = this;
    for (let j = start[low + 1], end = start[high + 1]; j < end; j++) {
      pixels[order[j]] = OUTLINE_COLOUR;
    }
  }

  /** Give the pixels whose event lies in (low, high] their level's colour. */
  #fill({ order, start }, low, high, colours) {
    const { pixels, levels } = this;
    for (let j = start[low + 1], end = start[high + 1]; j < end; j++) {
      const i = order[j];
      pixels[i] = colours[levels[i]];
    }
  }
}

/**
 * Which of a colour map's 256 colours each level gets.
 * @param {{signed: boolean, lowest: number, highest: number}} map - Its raw range; a signed map is
 *   spread around zero, index = 0.5 + 0.5·raw / max|raw|.
 * @returns {Uint8Array} 256 indices.
 */
function colourIndices(map) {
  const indices = new Uint8Array(256);
  const scale = Math.max(Math.abs(map.lowest), Math.abs(map.highest));
  for (let q = 0; q < 256; q++) {
    const raw = map.lowest + (q / 255) * (map.highest - map.lowest);
    const share = scale > 0 ? 0.5 + (0.5 * raw) / scale : 0.5;
    indices[q] = map.signed ? Math.round(255 * share) : q;
  }
  return indices;
}

/**
 * Colour and alpha of every level. Inside the mask the photo shows through by 1 − opacity; outside it
 * is also dimmed: (1−d)·((1−a)·photo + a·colour), written as one transparent colour over the photo.
 * @param {Uint8Array} colourMap - 256 × 3.
 * @param {Uint8Array} indices - From `colourIndices`.
 * @param {number} opacity - Of the heatmap, in [0,1].
 */
function colourTables(colourMap, indices, opacity) {
  const heat = OUTSIDE_HEAT * opacity;
  const cover = 1 - (1 - OUTSIDE_DIM) * (1 - heat);
  const shade = ((1 - OUTSIDE_DIM) * heat) / cover;
  return {
    inside: colourTable(colourMap, indices, 1, opacity),
    outside: colourTable(colourMap, indices, shade, cover),
  };
}

function colourTable(colourMap, indices, shade, alpha) {
  const bytes = new Uint8Array(4 * 256);
  for (let q = 0; q < 256; q++) {
    for (let c = 0; c < 3; c++) bytes[4 * q + c] = Math.round(shade * colourMap[3 * indices[q] + c]);
    bytes[4 * q + 3] = Math.round(255 * alpha);
  }
  return new Uint32Array(bytes.buffer);
}

/** @returns {string} A CSS gradient of the colours from level 0 to 255, left to right. */
function colourGradient(colourMap, indices) {
  const stops = [];
  for (let q = 0; q < 256; q += 15) {
    const at = 3 * indices[q];
    stops.push(`rgb(${colourMap[at]} ${colourMap[at + 1]} ${colourMap[at + 2]})`);
  }
  return `linear-gradient(to right, ${stops.join(", ")})`;
}
