/** Ids that nobody else has. */

/** Return `prefix` and 128 random bits in hexadecimal, on pages without TLS too, where `randomUUID` is missing. */
export function newId(prefix = ""): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return prefix + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Return an id from a header, where what is not plain ASCII is percent-encoded; `null` where it is absent. */
export function headerId(value: string | null): string | null {
  if (value === null || value === "") return null;
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}
