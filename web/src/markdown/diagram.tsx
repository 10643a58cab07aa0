/** A Mermaid diagram. Loaded when the first one is shown; drawn as an image, in which nothing runs and nothing is fetched. */
import { Code, Network } from "lucide-react";
import { useEffect, useState } from "react";

import { useDarkTheme } from "../app/dark.ts";
import { useWords } from "../app/words.ts";
import { IconButton } from "../ui/button.tsx";
import { CopyButton } from "../ui/copy_button.tsx";
import { CodeBlock } from "./code_block.tsx";
import { draw, type Drawing } from "./drawing.ts";

/** Least scale: letters of 16 px have 10. What is wider than the column then has a scroller. */
const LEAST_SCALE = 0.62;

export default function Diagram({ source }: { source: string }) {
  const t = useWords();
  const dark = useDarkTheme();
  const [drawing, setDrawing] = useState<Drawing | "failed" | null>(null);
  const [asSource, setAsSource] = useState(false);

  useEffect(() => {
    let current = true;
    draw(source, dark).then(
      (drawn) => current && setDrawing(drawn),
      () => current && setDrawing("failed"),
    );
    return () => {
      current = false;
    };
  }, [source, dark]);

  if (asSource || drawing === "failed") {
    return (
      <>
        <CodeBlock language="mermaid" code={source}>
          {drawing !== "failed" && (
            <IconButton
              label={t.markdown.showDiagram}
              icon={<Network size={16} />}
              size="small"
              onClick={() => setAsSource(false)}
            />
          )}
        </CodeBlock>
        {drawing === "failed" && <p className="text-sm text-ink-soft">{t.markdown.diagramFailed}</p>}
      </>
    );
  }
  return (
    <div className="code-block" data-diagram>
      <div className="code-head">
        <span className="font-mono text-xs text-ink-soft">{t.markdown.diagram}</span>
        <span className="flex">
          <IconButton
            label={t.markdown.showSource}
            icon={<Code size={16} />}
            size="small"
            onClick={() => setAsSource(true)}
          />
          <CopyButton text={() => source} />
        </span>
      </div>
      <div className="overflow-x-auto p-4" tabIndex={0} role="region" aria-label={t.markdown.diagram}>
        {drawing && (
          <img
            src={drawing.address}
            alt={source}
            width={drawing.width}
            height={drawing.height}
            className="mx-auto h-auto max-w-full"
            style={{ minWidth: Math.round(drawing.width * LEAST_SCALE) }}
          />
        )}
        {!drawing && <div className="h-40" aria-busy="true" />}
      </div>
    </div>
  );
}
