/** Parts of a search result's snippet: matches stand between U+E000 and U+E001. Pure. */
export interface SnippetPart {
  readonly text: string;
  readonly match: boolean;
}

export function snippetParts(snippet: string): SnippetPart[] {
  const parts: SnippetPart[] = [];
  snippet.split("\uE000").forEach((piece, at) => {
    const end = at === 0 ? 0 : piece.indexOf("\uE001");
    const matched = at === 0 ? "" : end < 0 ? piece : piece.slice(0, end);
    const rest = at === 0 ? piece : end < 0 ? "" : piece.slice(end + 1);
    if (matched) parts.push({ text: matched, match: true });
    if (rest) parts.push({ text: rest.replaceAll("\uE001", ""), match: false });
  });
  return parts;
}
