/** A reply's text. Everything that could run or fetch something is shown as what it says instead. */
import { ExternalLink, ImageOff } from "lucide-react";
import { type ComponentProps, memo, type ReactNode, startTransition, useEffect, useMemo, useState, useSyncExternalStore } from "react";
import { type Components, defaultRehypePlugins, type MathPlugin, Streamdown } from "streamdown";

import { useWords } from "../app/words.ts";
import { FencedBlock } from "./code_block.tsx";
import { safeLink } from "./links.ts";
import { mayHoldMath, normaliseMath } from "./math_text.ts";

let math: MathPlugin | null = null;
const listeners = new Set<() => void>();
const subscribe = (listener: () => void): (() => void) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

function useMath(wanted: boolean): MathPlugin | null {
  const loaded = useSyncExternalStore(subscribe, () => math);
  useEffect(() => {
    if (!wanted || math) return;
    void import("./math.ts")
      .then(({ plugin }) => {
        math = plugin;
        for (const listener of listeners) listener();
      })
      // Formulas are then shown as they were written.
      .catch(() => undefined);
  }, [wanted]);
  return wanted ? loaded : null;
}

function Link({ href, children }: ComponentProps<"a">) {
  // A place in the page is none of an address: names in replies are not the page's, and footnotes stand below anyway.
  const link = href?.startsWith("#") ? null : safeLink(href, location.origin);
  if (!link) return <span>{children}</span>;
  return (
    <a href={link.href} {...(link.outside ? { target: "_blank", rel: "noopener noreferrer nofollow" } : {})}>
      {children}
    </a>
  );
}

function Image({ alt, src }: ComponentProps<"img">) {
  const t = useWords();
  const link = safeLink(typeof src === "string" ? src : undefined, location.origin);
  const words = alt ? t.markdown.image(alt) : t.markdown.imageBare;
  return (
    <span className="not-loaded">
      <ImageOff size={14} aria-hidden />
      <span>{words}</span>
      {link && (
        <a href={link.href} target="_blank" rel="noopener noreferrer nofollow" aria-label={link.href}>
          <ExternalLink size={14} />
        </a>
      )}
    </span>
  );
}

function Table({ children }: ComponentProps<"table">) {
  const t = useWords();
  return (
    <div className="table-scroll" tabIndex={0} role="region" aria-label={t.markdown.table}>
      <table>{children}</table>
    </div>
  );
}

function Fence({ className, children }: ComponentProps<"code">) {
  const language = /language-([^\s]+)/.exec(className ?? "")?.[1] ?? "";
  return <FencedBlock language={language} code={textOf(children)} />;
}

function textOf(children: ReactNode): string {
  if (typeof children === "string" || typeof children === "number") return String(children);
  if (Array.isArray(children)) return children.map(textOf).join("");
  return "";
}

const plain = (
  Tag:
    | "h1"
    | "h2"
    | "h3"
    | "h4"
    | "h5"
    | "h6"
    | "p"
    | "ul"
    | "ol"
    | "li"
    | "blockquote"
    | "hr"
    | "strong"
    | "thead"
    | "tbody"
    | "tr"
    | "sup"
    | "sub"
    | "section",
) =>
  function Plain({ node: _, className: __, ...rest }: Record<string, unknown>) {
    return <Tag {...rest} />;
  };

const COMPONENTS = {
  a: Link,
  img: Image,
  table: Table,
  code: Fence,
  inlineCode: ({ children }: ComponentProps<"code">) => <code>{children}</code>,
  th: ({ children, style }: ComponentProps<"th">) => <th style={style}>{children}</th>,
  td: ({ children, style }: ComponentProps<"td">) => <td style={style}>{children}</td>,
  input: ({ checked, type }: ComponentProps<"input">) =>
    type === "checkbox" ? (
      <input type="checkbox" checked={checked ?? false} disabled aria-label={checked ? "✓" : "–"} readOnly />
    ) : null,
  ...Object.fromEntries(
    (
      [
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "p",
        "ul",
        "ol",
        "li",
        "blockquote",
        "hr",
        "strong",
        "thead",
        "tbody",
        "tr",
        "sup",
        "sub",
        "section",
      ] as const
    ).map((tag) => [tag, plain(tag)]),
  ),
} as Components;

/** So much of a text is drawn at once, about a screen; the rest follows in such pieces, which let keys and clicks through. */
const AT_ONCE_CHARS = 1_500;
/** What stands for an address that may not be followed is its text; a name that a reply gives is none of the page's. */
const REHYPE = [
  ...(defaultRehypePlugins["raw"] ? [defaultRehypePlugins["raw"]] : []),
  withOptions("sanitize", { clobberPrefix: "user-content-" }),
  withOptions("harden", { linkBlockPolicy: "text-only", imageBlockPolicy: "text-only", allowDataImages: false }),
];

type Rehype = (typeof defaultRehypePlugins)[string];

function withOptions(name: "sanitize" | "harden", more: object): Rehype {
  const [plugin, options] = defaultRehypePlugins[name] as unknown as [unknown, object];
  return [plugin, { ...options, ...more }] as Rehype;
}

const NO_LINK_BOX = { enabled: false } as const;

/** Renders a reply's Markdown; while `growing`, unfinished marks at its end are shown as if they were closed. */
export const Markdown = memo(function Markdown({ text: whole, growing = false }: { text: string; growing?: boolean }) {
  // A text that has grown here is drawn already: its end must not lag behind.
  const [isStored, setStored] = useState(!growing);
  if (growing && isStored) setStored(false);
  const [drawn, setDrawn] = useState(AT_ONCE_CHARS);
  const isBehind = isStored && drawn < whole.length;
  useEffect(() => {
    if (isBehind) startTransition(() => setDrawn(drawn + AT_ONCE_CHARS));
  }, [isBehind, drawn]);
  const text = isBehind ? whole.slice(0, drawn) : whole;
  const loaded = useMath(mayHoldMath(text));
  const plugins = useMemo(() => (loaded ? { math: loaded } : {}), [loaded]);
  // The mode stays: a change at the end would render the whole reply anew.
  const [mode] = useState<"streaming">("streaming");
  return (
    <Streamdown
      mode={mode}
      isAnimating={growing}
      components={COMPONENTS}
      controls={false}
      linkSafety={NO_LINK_BOX}
      plugins={plugins}
      rehypePlugins={REHYPE}
      className={growing ? "prose growing" : "prose"}
      lineNumbers={false}
    >
      {loaded ? normaliseMath(text) : text}
    </Streamdown>
  );
});
