/** What the answer to a request for a reply is, by the rules of reconnect.ts. */

import type { LegatoError } from "./errors.ts";
import { isEventStream, notLegato, refusal } from "./http.ts";
import { type Answer, answerEvent, type EventName } from "./reconnect.ts";

export interface Verdict {
  readonly event: EventName;
  /** What is thrown if this is the end; `null` where nothing is wrong. */
  readonly error: LegatoError | null;
}

/** Whether an answer is a stream of events, and no refusal in the form of one. */
export function isReply(response: Response): boolean {
  return response.status === 200 && isEventStream(response);
}

/** Return what an answer is; the body of a refusal is read. */
export async function judge(
  response: Response,
  asked: Pick<Answer, "method" | "isNamed" | "cursor">,
): Promise<Verdict> {
  const { status } = response;
  const answer = { ...asked, status, isStream: isEventStream(response), code: null };
  if (isReply(response)) return { event: answerEvent(answer), error: null };
  if (status === 200 || status === 204) {
    const error = notLegato("what answers at this address streams no reply: it is no Legato server", status);
    const event = answerEvent(answer);
    return { event, error: event === "nothingMore" ? null : error };
  }
  const error = await refusal(response);
  return { event: answerEvent({ ...answer, code: error.code }), error };
}
