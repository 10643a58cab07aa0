/** Which browser a page was opened in, read off what it calls itself. Pure. */

// The first that fits: most browsers call themselves Chrome or Safari too, and Android calls itself Linux.
const BROWSERS = [
  ["Edge", /\bEdg(e|A|iOS)?\//],
  ["Opera", /\b(OPR|OPiOS|OPT|Opera)\//],
  ["Firefox", /\b(Firefox|FxiOS)\//],
  ["Chrome", /(Chrome|CriOS)\//],
  ["Safari", /\bSafari\//],
] as const;
const SYSTEMS = [
  ["iPhone", /\biPhone\b/],
  ["iPad", /\biPad\b/],
  ["Android", /\bAndroid\b/],
  ["Windows", /\bWindows\b/],
  ["macOS", /\bMacintosh\b/],
  ["Linux", /\bLinux\b/],
] as const;

/** The browser and its system as `["Chrome", "Linux"]`; `null` where either is not known. */
export function browserOf(agent: string): readonly [browser: string, system: string] | null {
  const browser = BROWSERS.find(([, pattern]) => pattern.test(agent));
  const system = SYSTEMS.find(([, pattern]) => pattern.test(agent));
  return browser && system ? [browser[0], system[0]] : null;
}
