/** A page with one conversation, which a reload finds again. */

import "@legato/react/style.css";

import { ChatInterface } from "@legato/react";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

// Any 1 to 200 printable characters are a conversation's id: the first message makes it.
const conversationId = location.hash.slice(1) || `example-${Date.now()}`;
location.hash = conversationId;

createRoot(document.getElementById("root") as HTMLElement).render(
  <StrictMode>
    <ChatInterface conversationId={conversationId} />
  </StrictMode>,
);
