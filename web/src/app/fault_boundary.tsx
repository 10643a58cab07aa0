import { Component, type ReactNode } from "react";

import { Button } from "../ui/button.tsx";
import { Trouble } from "../ui/notices.tsx";
import { WordsContext } from "./words.ts";

/** A fault of the page's own: said, with a way out, instead of an empty page. What is on the server is not touched by it. */
export class FaultBoundary extends Component<{ children: ReactNode }, { failed: boolean }> {
  static override contextType = WordsContext;
  declare context: React.ContextType<typeof WordsContext>;
  override state = { failed: false };

  static getDerivedStateFromError(): { failed: boolean } {
    return { failed: true };
  }

  override render(): ReactNode {
    if (!this.state.failed) return this.props.children;
    const { t } = this.context;
    return (
      <main className="flex h-full items-center justify-center p-6">
        <div className="w-full max-w-md">
          <Trouble
            title={t.errors.crash}
            hint={t.errors.otherDo}
            actions={<Button onClick={() => location.reload()}>{t.errors.reload}</Button>}
          />
        </div>
      </main>
    );
  }
}
