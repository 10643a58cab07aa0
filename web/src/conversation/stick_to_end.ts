/** Keeps the newest text in sight while it grows, until the reader scrolls up; and again once they are back at the end. */
import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

/** So near to the end, in pixels, counts as being there. */
const NEAR = 40;
const UP_KEYS = new Set(["ArrowUp", "PageUp", "Home"]);

export interface StickToEnd {
  /** The reader has scrolled away from the end. */
  readonly away: boolean;
  readonly toEnd: (smooth?: boolean) => void;
  /** Stops following, as scrolling up does. */
  readonly letGo: () => void;
}

export function useStickToEnd(
  scroller: RefObject<HTMLElement | null>,
  content: RefObject<HTMLElement | null>,
): StickToEnd {
  const stuck = useRef(true);
  const [away, setAway] = useState(false);

  const toEnd = useCallback(
    (smooth = false) => {
      stuck.current = true;
      setAway(false);
      const element = scroller.current;
      element?.scrollTo({ top: element.scrollHeight, behavior: smooth ? "smooth" : "instant" });
    },
    [scroller],
  );
  const letGo = useCallback(() => {
    stuck.current = false;
  }, []);

  useLayoutEffect(() => {
    const element = scroller.current;
    const inner = content.current;
    if (!element || !inner) return;
    const follow = (): void => {
      // A message that is being edited stays in sight.
      if (stuck.current && !inner.querySelector("textarea:focus")) element.scrollTop = element.scrollHeight;
    };
    const observer = new ResizeObserver(follow);
    observer.observe(inner);
    observer.observe(element);
    follow();
    return () => observer.disconnect();
  }, [scroller, content]);

  useEffect(() => {
    const element = scroller.current;
    if (!element) return;
    let touchedAt = 0;
    const stop = new AbortController();
    const options = { passive: true, signal: stop.signal };
    const distance = (): number => element.scrollHeight - element.scrollTop - element.clientHeight;
    element.addEventListener("wheel", (event) => event.deltaY < 0 && letGo(), options);
    element.addEventListener("touchstart", (event) => (touchedAt = event.touches[0]?.clientY ?? 0), options);
    element.addEventListener(
      "touchmove",
      (event) => (event.touches[0]?.clientY ?? 0) > touchedAt + 4 && letGo(),
      options,
    );
    element.addEventListener(
      "keydown",
      (event) => UP_KEYS.has(event.key) && event.target === element && letGo(),
      options,
    );
    // A drag of the scroll bar makes no wheel and no key.
    element.addEventListener("pointerdown", (event) => event.target === element && letGo(), options);
    element.addEventListener(
      "scroll",
      () => {
        const gap = distance();
        if (gap < NEAR) stuck.current = true;
        setAway(!stuck.current && gap > NEAR * 4);
      },
      options,
    );
    return () => stop.abort();
  }, [scroller, letGo]);

  return { away, toEnd, letGo };
}
