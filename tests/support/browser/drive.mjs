// Drives one page of a headless Chromium: an order per line comes in, an answer per line goes out, both JSON.
//
// Owns: the browser, what it asked for and what it complained of. Does not own: what is looked for (the tests).
// Rule: an order that cannot be carried out within its time is answered with `error`; the browser ends with the input.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [folder, chromium] = process.argv.slice(2);
const { chromium: browsers } = createRequire(`${folder}/`)("playwright-core");
const WAIT_MS = 60000;

const browser = await browsers.launch({
  executablePath: chromium,
  // As root, as continuous integration runs, Chromium starts only without its sandbox; it sees nothing but our own page.
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--no-first-run"],
});
const context = await browser.newContext({ locale: "en-GB", timezoneId: "UTC", deviceScaleFactor: 1 });
const page = await context.newPage();
page.setDefaultTimeout(WAIT_MS);
const asked = new Set();
const complaints = [];
page.on("request", (request) => asked.add(new URL(request.url()).origin));
page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
page.on("pageerror", (error) => complaints.push(String(error)));

/** Text whose contrast with what is behind it is less than 4.5, and the contrast. */
const pale = () => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const colour = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const light = ([r, g, b]) => {
    const part = (c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = colour(getComputedStyle(at).backgroundColor);
      if (found[3] > 0.5 && !(at instanceof SVGElement)) return found;
    }
    return [255, 255, 255, 1];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || element.nodeName === "title" || !element.checkVisibility?.()) continue;
    const style = getComputedStyle(element);
    const front = colour(element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(front), light(behind(element))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) found.push(`${node.data.trim().slice(0, 40)} ${contrast.toFixed(2)}`);
  }
  return found;
};

const orders = {
  open: ({ url }) => page.goto(url, { waitUntil: "domcontentloaded" }).then(() => true),
  shape: async ({ width, height, dark }) => {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme: dark ? "dark" : "light" });
    return true;
  },
  // Whether something is, or comes to be, visible that has this text.
  see: ({ selector, text }) => page.locator(selector).filter({ hasText: text ?? "" }).first().waitFor({ state: "visible" }).then(() => true),
  gone: ({ selector }) => page.locator(selector).first().waitFor({ state: "hidden" }).then(() => true),
  // Waits until an expression of the page is true.
  until: async ({ script }) => {
    const end = Date.now() + WAIT_MS;
    while (!(await page.evaluate(script))) {
      if (Date.now() > end) throw new Error(`not true in time: ${script}`);
      await page.waitForTimeout(100);
    }
    return true;
  },
  evaluate: ({ script }) => page.evaluate(script),
  text: ({ selector }) => page.locator(selector).first().innerText(),
  click: ({ selector }) => page.locator(selector).first().click().then(() => true),
  focus: ({ selector }) => page.locator(selector).first().focus().then(() => true),
  press: ({ key }) => page.keyboard.press(key).then(() => true),
  shot: ({ path, whole }) => page.screenshot({ path, fullPage: whole ?? true }).then(() => true),
  pale: () => page.evaluate(pale),
  // How many pixels the page is wider than its window.
  overflow: () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth),
  // Short names and numbers that are broken into several lines.
  broken: () => page.evaluate(() => [...document.querySelectorAll("main code")]
    .filter((code) => !code.closest("pre") && code.textContent.length <= 24 && code.checkVisibility())
    .filter((code) => new Set([...code.getClientRects()].map(({ top }) => Math.round(top))).size > 1)
    .map((code) => code.textContent)),
  heard: () => ({ origins: [...asked], complaints: complaints.splice(0) }),
};

const answer = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
answer({ ok: browser.version() });
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  try {
    answer({ ok: await orders[order.do](order) });
  } catch (error) {
    const seen = await page.locator("body").innerText().catch(() => "");
    answer({ error: String(error.message ?? error), seen: seen.slice(0, 4000) });
  }
}
await browser.close();
