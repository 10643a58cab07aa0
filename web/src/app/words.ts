/** The strings and number formats of the language that is shown. */
import { createContext, useContext } from "react";

import { de } from "../strings/de.ts";
import { en, type Strings } from "../strings/en.ts";
import type { Language } from "./preferences.ts";

export interface Words {
  readonly language: Language;
  readonly t: Strings;
}

const ALL: Record<Language, Words> = { en: { language: "en", t: en }, de: { language: "de", t: de } };

export const wordsOf = (language: Language): Words => ALL[language];

export const WordsContext = createContext<Words>(ALL.en);

/** All words of the page: `const t = useWords()`. */
export const useWords = (): Strings => useContext(WordsContext).t;

export const useLanguage = (): Language => useContext(WordsContext).language;
