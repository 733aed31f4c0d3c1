// Accessibility checks that run inside a page, in the manner of the usual rule sets: each finding is one line of text.
// Source: WCAG 2.1 (contrast 1.4.3, names 4.1.2, headings 1.3.1, language 3.1.1), written for this project.
window.page_checks = (() => {
  const visible = (element) => element.getClientRects().length > 0 && getComputedStyle(element).visibility !== "hidden";
  const name = (element) => {
    const by = element.getAttribute("aria-labelledby");
    if (by) return by.split(/\s+/).map((id) => document.getElementById(id)?.textContent ?? "").join(" ").trim();
    const label = element.getAttribute("aria-label") ?? "";
    const labels = element.labels ? [...element.labels].map((other) => other.textContent).join(" ") : "";
    return (label + labels + element.textContent).trim();
  };
  const parse = (text) => {
    const parts = (text.match(/[\d.]+/g) ?? []).map(Number);
    return { rgb: parts.slice(0, 3), alpha: parts.length > 3 ? parts[3] : 1 };
  };
  const over = (top, below) => top.rgb.map((value, at) => top.alpha * value + (1 - top.alpha) * below[at]);
  const background = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().filter((layer) => layer.rgb.length === 3).reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((value) => value / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  const document_rules = () => {
    const found = [];
    if (!document.documentElement.lang) found.push("no language on the document");
    if (!document.title.trim()) found.push("no title on the document");
    if (document.querySelectorAll("main").length !== 1) found.push("not exactly one main");
    const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
    for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) found.push(`id ${id} is used twice`);
    let level = 0;
    for (const heading of document.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
      const now = Number(heading.tagName[1]);
      if (now > level + 1) found.push(`heading ${heading.textContent}: level ${now} after ${level}`);
      level = now;
    }
    return found;
  };
  const names = () => {
    const found = [];
    for (const element of document.querySelectorAll("button, summary, input, select")) {
      if (visible(element) && !name(element)) found.push(`${element.tagName.toLowerCase()} without a name`);
    }
    for (const link of document.querySelectorAll("a[href]")) {
      if (!name(link)) found.push("link without words");
      const target = decodeURIComponent(link.getAttribute("href"));
      if (target.startsWith("#") && !document.getElementById(target.slice(1))) found.push(`link to ${target}, which is not there`);
    }
    for (const image of document.querySelectorAll("[role=img], img")) {
      if (!name(image)) found.push("img without a name");
    }
    for (const region of document.querySelectorAll("[role=region]")) {
      if (!name(region)) found.push("region without a name");
    }
    return found;
  };
  const tables = () => {
    const found = [];
    for (const table of document.querySelectorAll("table")) {
      const what = `table ${table.id || table.caption?.textContent.slice(0, 30) || "without caption"}`;
      if (!table.caption?.textContent.trim() && !table.closest("figure, details, section")) found.push(`${what}: no caption`);
      const heads = [...(table.tHead?.querySelectorAll("th") ?? [])];
      if (heads.length === 0) found.push(`${what}: no header cells`);
      if ([...table.querySelectorAll("th")].some((head) => !head.hasAttribute("scope"))) found.push(`${what}: header without scope`);
      if (heads.some((head) => !head.textContent.trim())) found.push(`${what}: empty header`);
    }
    return found;
  };
  const contrasts = () => {
    const found = new Set();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const element = node.parentElement;
      if (!node.textContent.trim() || !visible(element) || element.closest("script, style, title, desc")) continue;
      const style = getComputedStyle(element);
      const ink = parse(element instanceof SVGElement ? style.fill : style.color);
      if (ink.rgb.length !== 3) continue;
      const below = background(element);
      const ratio = contrast(over(ink, below), below);
      const size = parseFloat(style.fontSize);
      const least = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
      if (ratio < least) found.add(`contrast ${ratio.toFixed(2)} of "${node.textContent.trim().slice(0, 30)}"`);
    }
    return [...found];
  };
  return {
    all: () => [...document_rules(), ...names(), ...tables(), ...contrasts()],
    focused: () => {
      const element = document.activeElement;
      const style = getComputedStyle(element);
      const box = element.getBoundingClientRect();
      const is_outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
      return { text: element.textContent.trim(), visible: is_outlined && box.width > 1 && box.right > 0 && element !== document.body };
    },
  };
})();
