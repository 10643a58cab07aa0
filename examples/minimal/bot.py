from legato import ChatMessageCompleted, Context, Legato

app = Legato(system_prompt="You help the guests of a small hotel. Answer in one or two sentences.")


@app.tool
async def breakfast(day: str) -> str:
    """Tell when breakfast is served on a day of the week, in English."""
    return "8-11" if day.lower() in ("saturday", "sunday") else "7-10"


@app.queue("chat.message.completed")
async def keep_question(event: ChatMessageCompleted, ctx: Context) -> None:
    """Keeps what guests ask."""
    message = await ctx.conversations.message(event.user_message_id)
    await ctx.state.set("questions", event.id, message.text)


@app.http("GET", "/questions")
async def questions(ctx: Context) -> list[str]:
    """Lists what guests have asked."""
    return [entry.value for entry in (await ctx.state.list("questions")).entries]
