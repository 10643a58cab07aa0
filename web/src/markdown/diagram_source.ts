/**
 * A diagram's text without tags: a `<` that begins one is written as Mermaid's own entity, so that it is shown, and never
 * parsed. Pure. Arrows (`<--`, `<|--`), stereotypes (`<<interface>>`) and line breaks (`<br>`) stay.
 */
export const withoutTags = (source: string): string => source.replace(/(?<!<)<(?=[a-z/!])(?!br\s*\/?>)/gi, "#lt;");

/** HTML without what runs or fetches: handlers lose their name, tags that load something are shown as text. Pure. */
export const defused = (html: string): string =>
  html
    .replace(/<(?=\/?(?:script|img|image|iframe|object|embed|link|meta|base|form|video|audio|source|input)\b)/gi, "&lt;")
    .replace(/([\s"'/])(on[a-z]+\s*=)/gi, "$1-$2");
