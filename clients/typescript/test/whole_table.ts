/**
 * An omission in the table of reconnect.ts is a compile error.
 *
 * Nothing here runs: `npm run check` reads it, and says which cell could be left out.
 */

import { type EventName, type State, TABLE } from "../src/reconnect.ts";

type Table = typeof TABLE;
type Without<S extends State, E extends EventName> = Omit<Table, S> & Readonly<Record<S, Omit<Table[S], E>>>;

/** Each cell, named where the table would be taken for whole without it. */
type Spare = { [S in State]: { [E in EventName]: Without<S, E> extends Table ? `${S} × ${E}` : never }[EventName] }[State];
/** The same for whole rows. */
type SpareRow = { [S in State]: Omit<Table, S> extends Table ? S : never }[State];

const { due: _due, ...row } = TABLE.waitingToOpen;
// @ts-expect-error The row lacks `due`.
export const lacksACell: Table = { ...TABLE, waitingToOpen: row };

const { unnamed: _unnamed, ...rows } = TABLE;
// @ts-expect-error The table lacks `unnamed`.
export const lacksARow: Table = rows;

// @ts-expect-error No event has this name.
export const knowsMore: Table = { ...TABLE, idle: { ...TABLE.idle, reset: TABLE.idle.abort } };

export const noneIsSpare: [Spare | SpareRow] extends [never] ? true : Spare | SpareRow = true;
