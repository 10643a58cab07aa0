/** Where words stand in the messages of a conversation. Pure. */

export interface Match {
  readonly key: string;
  /** Which of its message's matches it is, from 0. */
  readonly at: number;
}

/** All matches, oldest first; upper and lower case are the same. */
export function findMatches(
  messages: readonly { readonly key: string; readonly content: string }[],
  words: string,
): Match[] {
  const wanted = words.toLocaleLowerCase();
  if (!wanted) return [];
  const found: Match[] = [];
  for (const { key, content } of messages) {
    const text = content.toLocaleLowerCase();
    let at = 0;
    for (let from = text.indexOf(wanted); from >= 0; from = text.indexOf(wanted, from + wanted.length))
      found.push({ key, at: at++ });
  }
  return found;
}
