/**
 * The life of one reply's reading: which state follows which, and what is to be done.
 *
 * Pure. Every rule about reconnecting stands in TABLE, which names each event in each state, so that one that is left
 * out does not compile; `answerEvent` tells which event an HTTP answer is. protocol/reconnect.json holds the same table
 * for every client.
 */

export type State =
  /** Nothing was sent yet. */
  | "idle"
  /** The message is being posted for the first time. */
  | "posting"
  /** It was cut before its answer, and is posted again under the same Idempotency-Key. */
  | "reposting"
  /** The run is asked for with GET, from the cursor on. */
  | "opening"
  /** The stream is open, and its run not known yet (its headers could not be read). */
  | "unnamed"
  /** The stream is open, and its run known: a cut loses nothing. */
  | "reading"
  /** Until the message is posted again. */
  | "waitingToPost"
  /** Until the run is asked for again. */
  | "waitingToOpen"
  /** Its `complete` or `error` was read, or the server says that nothing is missing. */
  | "ended"
  | "failed"
  /** By the reader; the reply goes on. */
  | "aborted";

export type EventName =
  /** A message is to be posted. */
  | "post"
  /** A run is to be followed. */
  | "follow"
  /** 200 and an event stream, of a run that is not known. */
  | "opened"
  /** 200 and an event stream, of a run that is known. */
  | "openedNamed"
  /** The first event with a cursor: the run is known. */
  | "named"
  /** An event was read. */
  | "progress"
  /** `complete` or `error` of the run. */
  | "terminal"
  /** 204: the caller's own cursor is at the end. */
  | "nothingMore"
  /** No answer, no stream, or a stream that ended, broke or fell silent without a terminal event. */
  | "cut"
  /** 429 or 503: not now. */
  | "refusedForNow"
  /** Any other refusal, or what is no stream. */
  | "refused"
  /** 409 `cursor_diverged`, or 204 to a reader that has seen no end: its cursor is no place in the log. */
  | "diverged"
  /** Too many tries in a row, counted when the next would be waited for. */
  | "exhausted"
  /** The wait is over. */
  | "due"
  /** The reader gives up. */
  | "abort";

export type Action =
  | "none"
  /** POST the message. */
  | "post"
  /** GET the run behind the cursor. */
  | "open"
  /** GET the run from its first event. */
  | "restart"
  /** Read the stream. */
  | "read"
  /** Wait, longer after each try. */
  | "wait"
  /** Forget the failed tries: the next wait is short again. */
  | "recover"
  /** End without an error. */
  | "end"
  /** End with the error that was seen. */
  | "fail";

export interface Step {
  readonly to: State;
  readonly action: Action;
}

/** What cannot happen there: a fault of the program. */
export const IMPOSSIBLE = "impossible";

type Row = Readonly<Record<EventName, Step | typeof IMPOSSIBLE>>;

const to = (state: State, action: Action): Step => ({ to: state, action });
const X = IMPOSSIBLE;
const FAIL = to("failed", "fail");
const ABORT = to("aborted", "fail");
const END = to("ended", "end");
const READ = to("reading", "read");
const POST_LATER = to("waitingToPost", "wait");
const OPEN_LATER = to("waitingToOpen", "wait");

// One row a state, the events in the order of EventName: asked, answered, read, lost, waited, given up.
// prettier-ignore
export const TABLE: Readonly<Record<State, Row>> = {
  idle: {
    ...{ post: to("posting", "post"), follow: to("opening", "open") },
    ...{ opened: X, openedNamed: X, named: X, progress: X, terminal: X, nothingMore: X },
    ...{ cut: X, refusedForNow: X, refused: X, diverged: X, exhausted: X, due: X, abort: ABORT },
  },
  posting: {
    ...{ post: X, follow: X },
    ...{ opened: to("unnamed", "read"), openedNamed: READ, named: X, progress: X, terminal: X, nothingMore: X },
    // A refused message was not taken: its sender is told at once, and decides.
    ...{ cut: POST_LATER, refusedForNow: FAIL, refused: FAIL, diverged: X, exhausted: X, due: X, abort: ABORT },
  },
  reposting: {
    ...{ post: X, follow: X },
    ...{ opened: to("unnamed", "read"), openedNamed: READ, named: X, progress: X, terminal: X, nothingMore: X },
    // The cut post may have been taken: only the same key, later, can tell.
    ...{ cut: POST_LATER, refusedForNow: POST_LATER, refused: FAIL, diverged: X, exhausted: X, due: X, abort: ABORT },
  },
  opening: {
    ...{ post: X, follow: X },
    ...{ opened: X, openedNamed: READ, named: X, progress: X, terminal: X, nothingMore: END },
    ...{ cut: OPEN_LATER, refusedForNow: OPEN_LATER, refused: FAIL, diverged: to("opening", "restart") },
    ...{ exhausted: X, due: X, abort: ABORT },
  },
  unnamed: {
    ...{ post: X, follow: X },
    ...{ opened: X, openedNamed: X, named: to("reading", "none"), progress: to("unnamed", "none"), terminal: X },
    ...{ nothingMore: X, cut: POST_LATER, refusedForNow: POST_LATER, refused: FAIL, diverged: X },
    ...{ exhausted: X, due: X, abort: ABORT },
  },
  reading: {
    ...{ post: X, follow: X },
    ...{ opened: X, openedNamed: X, named: X, progress: to("reading", "recover"), terminal: END, nothingMore: X },
    ...{ cut: OPEN_LATER, refusedForNow: OPEN_LATER, refused: FAIL, diverged: X, exhausted: X, due: X, abort: ABORT },
  },
  waitingToPost: {
    ...{ post: X, follow: X },
    ...{ opened: X, openedNamed: X, named: X, progress: X, terminal: X, nothingMore: X },
    ...{ cut: X, refusedForNow: X, refused: X, diverged: X, exhausted: FAIL, due: to("reposting", "post") },
    ...{ abort: ABORT },
  },
  waitingToOpen: {
    ...{ post: X, follow: X },
    ...{ opened: X, openedNamed: X, named: X, progress: X, terminal: X, nothingMore: X },
    ...{ cut: X, refusedForNow: X, refused: X, diverged: X, exhausted: FAIL, due: to("opening", "open") },
    ...{ abort: ABORT },
  },
  ended: {
    ...{ post: X, follow: X, opened: X, openedNamed: X, named: X, progress: X, terminal: X, nothingMore: X },
    ...{ cut: X, refusedForNow: X, refused: X, diverged: X, exhausted: X, due: X, abort: to("ended", "none") },
  },
  failed: {
    ...{ post: X, follow: X, opened: X, openedNamed: X, named: X, progress: X, terminal: X, nothingMore: X },
    ...{ cut: X, refusedForNow: X, refused: X, diverged: X, exhausted: X, due: X, abort: to("failed", "none") },
  },
  aborted: {
    ...{ post: X, follow: X, opened: X, openedNamed: X, named: X, progress: X, terminal: X, nothingMore: X },
    ...{ cut: X, refusedForNow: X, refused: X, diverged: X, exhausted: X, due: X, abort: to("aborted", "none") },
  },
};

/** Return what follows an event, or throw a TypeError where it cannot happen. */
export function step(state: State, event: EventName): Step {
  const found = TABLE[state][event];
  if (found === IMPOSSIBLE) throw new TypeError(`"${event}" cannot happen in the state "${state}"`);
  return found;
}

/** An HTTP answer, as far as the rules look at it. */
export interface Answer {
  readonly method: "POST" | "GET";
  /** 0 for a redirection that a browser does not show. */
  readonly status: number;
  /** Whether its content type is `text/event-stream`. */
  readonly isStream: boolean;
  /** Of the error that its body tells; `null` where it tells none. */
  readonly code: string | null;
  /** Whether the run is known, from this answer or before. */
  readonly isNamed: boolean;
  /** The cursor that was sent: none, the caller's own, or that of an event which this reader has read. */
  readonly cursor: "none" | "given" | "read";
}

/** Statuses of proxies that have lost the server, or have it not yet: whether it took the request nobody knows. */
const GATEWAY: ReadonlySet<number> = new Set([408, 425, 502, 504, 520, 521, 522, 523, 524, 530]);

/** Return which event an HTTP answer is. */
export function answerEvent(answer: Answer): EventName {
  const { method, status, cursor } = answer;
  if (status === 200 && answer.isStream) return answer.isNamed ? "openedNamed" : "opened";
  if (status === 429 || status === 503) return "refusedForNow";
  if (GATEWAY.has(status)) return "cut";
  if (method === "GET" && cursor !== "none") {
    if (status === 409 && answer.code === "cursor_diverged") return "diverged";
    if (status === 204) return cursor === "given" ? "nothingMore" : "diverged";
  }
  return "refused";
}
