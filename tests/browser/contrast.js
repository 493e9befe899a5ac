// Words that stand out from their ground by less than 4.5 to 1 (WCAG 2.2, 1.4.3), as text for a test's message.
// Left out: what is disabled, icons, and what is drawn on a canvas.
() => {
  const channels = (text) => {
    const found = text.match(/rgba?\(([^)]+)\)/);
    if (!found) return null;
    const parts = found[1].split(/[ ,/]+/).map(Number);
    return [parts[0], parts[1], parts[2], parts.length > 3 ? parts[3] : 1];
  };
  const over = (top, under) => [0, 1, 2].map((k) => top[k] * top[3] + under[k] * (1 - top[3])).concat([1]);
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const layers = [];
    for (let node = element; node; node = node.parentElement) {
      const colour = channels(getComputedStyle(node).backgroundColor);
      if (colour && colour[3] > 0) layers.push(colour);
      if (colour && colour[3] === 1) break;
    }
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const LEFT_OUT = "[aria-disabled=true], :disabled, [data-testid=stIconMaterial], script, style, noscript";
  const seen = new Map();
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].filter((node) => node.nodeType === 3 && node.textContent.trim());
    const box = element.getBoundingClientRect();
    const style = getComputedStyle(element);
    if (!own.length || !box.width || !box.height || style.visibility === "hidden") continue;
    if (element.closest(LEFT_OUT)) continue;
    if (element.closest("label")?.parentElement.querySelector("input:disabled")) continue;
    let opacity = 1;
    for (let node = element; node; node = node.parentElement) opacity *= Number(getComputedStyle(node).opacity);
    const colour = channels(element instanceof SVGElement ? style.fill : style.color);
    if (!colour || opacity === 0) continue;
    const under = ground(element);
    const front = over([...colour.slice(0, 3), colour[3] * opacity], under);
    const [light, dark] = [luminance(front), luminance(under)].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    const name = `${element.tagName} ${element.getAttribute("class") || ""}`.slice(0, 60);
    if (ratio < 4.5 && !seen.has(name)) {
      seen.set(name, `${ratio.toFixed(2)}: ${own[0].textContent.trim().slice(0, 40)} (${name})`);
    }
  }
  return [...seen.values()];
}
