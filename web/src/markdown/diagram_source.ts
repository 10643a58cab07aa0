/**
 * A diagram's text without tags: a `<` that begins one is written as Mermaid's own entity, so that it is shown, and never
 * parsed. Pure. Arrows (`<--`, `<|--`), stereotypes (`<<interface>>`) and line breaks (`<br>`) stay.
 */
export const withoutTags = (source: string): string => source.replace(/(?<!<)<(?=[a-z/!])(?!br\s*\/?>)/gi, "#lt;");
