import { clsx } from "clsx";
import { WrapText } from "lucide-react";
import { lazy, memo, Suspense, useEffect, useMemo, useState } from "react";
import { useIsCodeFenceIncomplete } from "streamdown";

import { useWords } from "../app/words.ts";
import { IconButton } from "../ui/button.tsx";
import { CopyButton } from "../ui/copy_button.tsx";
import type { Painter, TokenLine } from "./highlighter.ts";
import { findLanguage } from "./languages.ts";

const Diagram = lazy(() => import("./diagram.tsx"));

/** A fenced block of a reply. */
export function FencedBlock({ language, code }: { language: string; code: string }) {
  const incomplete = useIsCodeFenceIncomplete();
  if (language === "mermaid" && !incomplete) {
    return (
      <Suspense fallback={<CodeBlock language={language} code={code} />}>
        <Diagram source={code} />
      </Suspense>
    );
  }
  return <CodeBlock language={language} code={code} />;
}

export function CodeBlock({
  language,
  code,
  children,
}: {
  language: string;
  code: string;
  children?: React.ReactNode;
}) {
  const t = useWords();
  const [wrap, setWrap] = useState(false);
  const lines = useColours(language, code);
  const name = language || t.markdown.plain;
  return (
    <div className="code-block" data-language={language}>
      <div className="code-head">
        <span className="min-w-0 truncate font-mono text-xs text-ink-soft">{name}</span>
        <span className="flex">
          {children}
          <IconButton
            label={t.markdown.wrap}
            icon={<WrapText size={16} />}
            size="small"
            on={wrap}
            onClick={() => setWrap(!wrap)}
          />
          <CopyButton text={() => code} />
        </span>
      </div>
      <pre tabIndex={0} aria-label={t.markdown.code(name)} role="region" className={clsx(wrap && "wrap-code")}>
        <code>{lines ? lines.map((line, at) => <Line key={at} line={line} />) : code}</code>
      </pre>
    </div>
  );
}

const Line = memo(function Line({ line }: { line: TokenLine }) {
  return (
    <span>
      {line.map((token, at) => (
        <span
          key={at}
          style={{
            color: token.color,
            ...(token.style & 1 ? { fontStyle: "italic" } : {}),
            ...(token.style & 2 ? { fontWeight: 600 } : {}),
          }}
        >
          {token.text}
        </span>
      ))}
      {"\n"}
    </span>
  );
});

function useColours(language: string, code: string): readonly TokenLine[] | null {
  const [painter, setPainter] = useState<Painter | null>(null);
  const known = findLanguage(language);
  useEffect(() => {
    if (!known) return;
    let current = true;
    void import("./highlighter.ts")
      .then(({ prepare }) => prepare(known))
      .then((ready) => current && setPainter(ready))
      // Without colours the code is still there.
      .catch(() => undefined);
    return () => {
      current = false;
      setPainter(null);
    };
  }, [known]);
  return useMemo(() => painter?.paint(code.replace(/\n$/, "")) ?? null, [painter, code]);
}
