/**
 * Brings the ways in which models write formulas, `\( … \)`, `\[ … \]` and `$ … $`, to the one that is parsed, `$$ … $$`.
 *
 * Pure. Law: what stands in code stays as it is, and sums of money do: a single `$` opens a formula only where no white
 * space follows, and closes one only where none precedes and no digit follows (Pandoc's rule).
 */
const CODE =
  /(^|\n)( {0,3})(`{3,}|~{3,})[^\n]*(?:\n[\s\S]*?(?:\n {0,3}\3[`~]*[ \t]*(?=\n|$)|$)|$)|(`+)(?!`)[\s\S]*?[^`]\4(?!`)/g;
const SINGLE = /(^|[^\\$])\$(?![\s$])((?:\\.|[^\\$\n])*?[^\\$\s])\$(?![\d$])/g;

/** Whether a text may hold a formula: only then is the renderer of formulas loaded. */
export const mayHoldMath = (text: string): boolean =>
  text.includes("$") || text.includes("\\(") || text.includes("\\[");

export function normaliseMath(text: string): string {
  if (!mayHoldMath(text)) return text;
  let out = "";
  let from = 0;
  for (const code of text.matchAll(CODE)) {
    out += plain(text.slice(from, code.index)) + code[0];
    from = code.index + code[0].length;
  }
  return out + plain(text.slice(from));
}

function plain(text: string): string {
  return text
    .replace(/\\\[([\s\S]+?)\\\]/g, (_, formula: string) => `\n$$\n${formula.trim()}\n$$\n`)
    .replace(/\\\(([\s\S]+?)\\\)/g, (_, formula: string) => `$$${formula.trim()}$$`)
    .replace(SINGLE, (_, before: string, formula: string) => `${before}$$${formula}$$`);
}
