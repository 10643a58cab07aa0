/** Colours code line by line, so that a block that grows is not coloured from its start with every word. Loaded lazily. */
import { createCssVariablesTheme, createHighlighterCore, type GrammarState, type HighlighterCore } from "shiki/core";
import { createJavaScriptRegexEngine } from "shiki/engine/javascript";

import { type LanguageName, loadLanguage } from "./languages.ts";

export interface Token {
  readonly text: string;
  readonly color: string | undefined;
  /** The style bits of TextMate: 1 italic, 2 bold, 4 underlined. */
  readonly style: number;
}

export type TokenLine = readonly Token[];

const THEME = "legato";
const theme = createCssVariablesTheme({ name: THEME, variablePrefix: "--shiki-", fontStyle: true });
/** Longer lines are shown as they are: a minified file would hold the page up. */
const LONGEST_LINE = 2_000;

let made: Promise<HighlighterCore> | null = null;
const highlighter = (): Promise<HighlighterCore> =>
  (made ??= createHighlighterCore({
    themes: [theme],
    langs: [],
    engine: createJavaScriptRegexEngine({ forgiving: true }),
  }));

/** Resolves when code of this language can be coloured. */
export async function prepare(language: LanguageName): Promise<Painter> {
  const [core, registration] = await Promise.all([highlighter(), loadLanguage(language)]);
  if (!core.getLoadedLanguages().includes(language)) await core.loadLanguage(registration);
  return new Painter(core, language);
}

/** Colours one block of code, which only ever grows. */
export class Painter {
  readonly #core: HighlighterCore;
  readonly #language: LanguageName;
  #text = "";
  #lines: TokenLine[] = [];
  #state: GrammarState | undefined;

  constructor(core: HighlighterCore, language: LanguageName) {
    this.#core = core;
    this.#language = language;
  }

  /** The coloured lines of `code`. Whole lines that were there before are the same objects. */
  paint(code: string): readonly TokenLine[] {
    if (!code.startsWith(this.#text)) this.#reset();
    const end = code.lastIndexOf("\n") + 1;
    if (end > this.#text.length) {
      const { lines, state } = this.#tokens(code.slice(this.#text.length, end - 1));
      this.#lines = [...this.#lines, ...lines];
      this.#state = state;
      this.#text = code.slice(0, end);
    }
    const rest = code.slice(end);
    return rest ? [...this.#lines, ...this.#tokens(rest).lines] : this.#lines;
  }

  #reset(): void {
    this.#text = "";
    this.#lines = [];
    this.#state = undefined;
  }

  #tokens(text: string): { lines: TokenLine[]; state: GrammarState | undefined } {
    const found = this.#core.codeToTokensBase(text, {
      lang: this.#language,
      theme: THEME,
      tokenizeMaxLineLength: LONGEST_LINE,
      ...(this.#state ? { grammarState: this.#state } : {}),
    });
    const lines = found.map((line) =>
      line.map(({ content, color, fontStyle }) => ({
        text: content,
        color,
        style: fontStyle && fontStyle > 0 ? fontStyle : 0,
      })),
    );
    return { lines, state: this.#core.getLastGrammarState(found) };
  }
}
