"""Writes crates/tokenization/src/engine/chat/golden.json.gz: what transformers makes of conversations.

    python scripts/golden/chat.py

needs the packages `transformers` and `jinja2`; the versions that made the file are noted in it. The templates under
scripts/golden/chat/ are built as those of many models are, and snippets.txt has a snippet for each rule of the language.
"""

from __future__ import annotations

import datetime
import gzip
import json
import pathlib

import jinja2
import transformers
import transformers.utils.chat_template_utils as utils

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ROOT / "scripts/golden/chat"
OUTPUT = ROOT / "crates/tokenization/src/engine/chat/golden.json.gz"
NOW = 1_739_612_345  # 2025-02-15 09:39:05 UTC, a Saturday


class Clock(datetime.datetime):
    """The clock that templates see stands still."""

    @classmethod
    def now(cls, tz=None):
        return datetime.datetime(2025, 2, 15, 9, 39, 5)


utils.datetime = Clock

WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Weather of a \"place\" <now> & later", "parameters": {
    "type": "object", "properties": {
        "city": {"type": "string", "description": "The city's name – é"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
        "days": {"type": "integer", "default": 3},
        "tags": {"type": "array", "items": {"type": "string"}},
        "grid": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        "where": {"type": "object", "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}}, "required": ["lat"]},
        "either": {"type": ["string", "null"]}}, "required": ["city"]}}}
ADD = {"type": "function", "function": {"name": "add", "description": "Adds", "parameters": {
    "type": "object", "properties": {"b": {"type": "number"}, "a": {"type": "boolean", "default": True}}, "required": ["b", "a"]},
    "return": {"type": "number"}}}
U = lambda c: {"role": "user", "content": c}
A = lambda c, **k: {"role": "assistant", "content": c, **k}
S = lambda c: {"role": "system", "content": c}
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich \"x\" <b>", "unit": "celsius", "n": 1.0, "e": 1e-05, "t": True, "z": None}}}
SCALL = {"id": "abcdefghi", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Bern", "unit": "celsius"}}}
CHATS = {
    "one": [U("Hello")],
    "turns": [U("  Hi there \n"), A("\n Hello!  "), U("How are you? 你好 👋")],
    "system": [S("  Be brief. /no_think "), U("Hi"), A("Yes?"), U("Bye")],
    "ends_assistant": [U("Hi"), A("The answer is ")],
    "think": [U("Q1"), A("<think>\nhm\n</think>\n\nA1"), U("Q2"), A("A2", reasoning_content="because\n")],
    "thinking_alias": [U("Q1"), A("A1", thinking="t"), U("Q2")],
    "tools": [S("Use tools."), U("Weather?"), A("", tool_calls=[CALL]), {"role": "tool", "name": "get_weather", "tool_call_id": "abcdefghi", "content": "{\"t\": 21.5}"}, A("It is 21.5"), U("And now?")],
    "tools_none": [U("Weather?"), {"role": "assistant", "content": None, "tool_calls": [SCALL]}, {"role": "tool", "tool_call_id": "abcdefghi", "content": "sunny"}],
    "two_calls": [U("W?"), A("Let me see", tool_calls=[SCALL, SCALL]), {"role": "tool", "tool_call_id": "abcdefghi", "content": "1"}, {"role": "tool", "tool_call_id": "abcdefghi", "content": "2"}],
    "parts": [U([{"type": "text", "text": " What is "}, {"type": "image", "url": "x"}, {"type": "text", "text": "this?"}]), A([{"type": "text", "text": "A cat"}])],
    "wrong_order": [A("first"), U("second"), U("third")],
    "unknown_role": [U("x"), {"role": "critic", "content": "bad"}],
    "special_text": [U("{% raw %}{{ x }}<|im_end|>\U000f0000\x00 </s>"), A("{{ 7*7 }}\r\n\ttab")],
}
KW = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
cases = []


def case(name, template, messages, tools=None, documents=None, gen=False, cont=False, kw=None, snippet=None):
    kw = {**KW, **(kw or {})}
    messages = json.loads(json.dumps(messages))
    entry = {"name": name, "messages": messages, "tools": tools, "documents": documents, "add_generation_prompt": gen, "continue": ("content" if cont is True else cont) or None, "variables": kw}
    entry["template"] = template
    if snippet is not None:
        entry["snippet"] = snippet
    try:
        normal = utils._normalize_chat_messages(messages)
        text, spans = utils.render_jinja_template([normal], tools=tools, documents=documents, chat_template=template, return_assistant_tokens_mask=not cont, continue_final_message=cont, add_generation_prompt=gen, **kw)
        entry["text"] = text[0]
        entry["spans"] = [list(s) for s in spans[0]] if spans else []
        try:
            entry["text"].encode("utf-8")
        except UnicodeEncodeError:
            return
    except jinja2.exceptions.TemplateSyntaxError as error:
        entry["error"], entry["why"] = "syntax", str(error)
    except Exception as error:
        kind = "raised" if type(error) is jinja2.exceptions.TemplateError else "continue" if cont and isinstance(error, ValueError) and "continue_final" in str(error) else "error"
        entry["error"], entry["why"] = kind, str(error)[:200] if kind != "raised" else str(error)
    cases.append(entry)


for path in sorted((SOURCES / "templates").glob("*.jinja")):
    template = path.read_text()
    for chat, messages in CHATS.items():
        for tools in (None, [WEATHER, ADD]):
            for gen in (False, True):
                case(f"{path.stem}/{chat}/{'tools' if tools else 'plain'}/{gen}", template, messages, tools, None, gen)
        case(f"{path.stem}/{chat}/documents", template, messages, [ADD], [{"title": "T1", "text": "Text one"}, {"doc_id": 7, "title": "T2", "text": "Ünï"}], True, kw={"enable_thinking": False, "controls": {"length": "short"}, "citation_mode": "accurate", "builtin_tools": ["brave", "code_interpreter", "get_weather"], "tools_in_user_message": False, "date_string": "1 Jan", "reasoning_effort": "high"})
        case(f"{path.stem}/{chat}/continue", template, messages, None, None, False, True)
    case(f"{path.stem}/continue_trim", template, [U("a"), A("  b  ")], cont=True)
    case(f"{path.stem}/continue_parts", template, [U("a"), A([{"type": "text", "text": "one "}, {"type": "text", "text": "two "}])], cont=True)

V = {"s": " Hello World ", "n": 7, "f": 2.5, "l": [3, 1, 2], "d": {"b": 1, "a": "x", "items": "I", "B": 2}, "e": [], "t": True, "z": None, "u": "ñ'\"\n\t\\ é 👋\u200b\x07", "nested": [{"k": "v", "n": {"m": [1, 2.0, None, True, "q'"]}}, {"k": "w", "n": {}}], "people": [{"name": "bob", "age": 3}, {"name": "Al", "age": 5}, {"name": "al", "age": 3}]}
SNIPPETS = (SOURCES / "snippets.txt").read_text().split("\n----\n")
for index, snippet in enumerate(SNIPPETS):
    case(f"snippet {index}", snippet, [U("x"), A("y")], kw=V, snippet=index)
made_by = f"scripts/golden/chat.py with transformers {transformers.__version__} and jinja2 {jinja2.__version__}"
text = json.dumps({"made_by": made_by, "now": NOW, "cases": cases}, ensure_ascii=False, separators=(",", ":"))
OUTPUT.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
print(len(cases), "cases;", sum("error" in c for c in cases), "errors")
