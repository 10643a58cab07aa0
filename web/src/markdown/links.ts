/** Which addresses in a reply may be followed. Pure. Whatever is not plainly harmless is shown as text. */

const SCHEMES = new Set(["http:", "https:", "mailto:", "tel:"]);

export interface SafeLink {
  readonly href: string;
  /** It leaves this server: opened beside it, told nothing of where the reader comes from. */
  readonly outside: boolean;
}

/** `null`: this address is not to be followed (`javascript:`, `data:`, one that cannot be read). */
export function safeLink(href: string | undefined, origin: string): SafeLink | null {
  if (!href) return null;
  // Browsers drop these inside a scheme, so that "java\nscript:" would run.
  const clean = href.replace(/[\u0000-\u0020\u007f-\u009f\u200b-\u200f\u2028-\u202e]/g, "");
  let url: URL;
  try {
    url = new URL(clean, origin);
  } catch {
    return null;
  }
  if (!SCHEMES.has(url.protocol)) return null;
  return { href: url.href, outside: url.origin !== origin };
}
