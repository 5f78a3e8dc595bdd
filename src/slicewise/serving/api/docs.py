"""The page at /docs: every route, from the API's own OpenAPI document; without scripts or external files."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

_STYLE: Final = """
body {font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;}
body {color: #334155;}
h2 {margin: 2.5rem 0 .25rem; font-size: 1.1rem;}
code, h2 {font-family: ui-monospace, monospace;}
table {border-collapse: collapse; width: 100%; overflow-wrap: anywhere;}
td {border-top: 1px solid #cbd5e1; padding: .3rem .8rem .3rem 0; vertical-align: top;}
td:first-child {width: 30%;}
"""

Json = Mapping[str, Any]


def render_docs(document: Json) -> str:
    """Return the HTML page of an OpenAPI 3.1 document as FastAPI generates it."""
    info = document["info"]
    paragraphs = _strip_markdown(info["description"]).split("\n\n")
    routes = [
        (f"{method.upper()} {path}", operations[method])
        for path, operations in document["paths"].items()
        for method in ("get", "post")
        if method in operations
    ]
    parts = [
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(info['title'])}</title>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        *(f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs),
        "<p>The same for programs: <a href='/openapi.json'>/openapi.json</a></p>",
        *(part for title, operation in routes for part in _render_route(title, operation, document)),
        "</body></html>",
    ]
    return "\n".join(parts)


def _render_route(title: str, operation: Json, document: Json) -> Iterator[str]:
    yield f"<h2>{escape(title)}</h2><p>{escape(operation['description'])}</p>"
    parameters = [
        (f"{item['name']} ({item['in']})", item.get("description") or item["schema"].get("description", ""))
        for item in operation.get("parameters", ())
    ]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        parameters += [(f"{name} (form)", text) for name, text in _fields(content["schema"], document)]
    yield from _table("Takes", parameters)
    for status, response in operation["responses"].items():
        kinds = response.get("content", {})
        if status == "200" and "application/json" in kinds:
            yield from _table("Returns", _fields(kinds["application/json"]["schema"], document))
    outcomes = [(code, item["description"]) for code, item in operation["responses"].items()]
    yield from _table("Status", outcomes)


def _fields(schema: Json, document: Json) -> list[tuple[str, str]]:
    """Return (name, description) of each field of a schema and of all its alternatives."""
    descriptions: dict[str, str] = {}
    for part in (schema, *schema.get("anyOf", ()), schema.get("items", {})):
        name = str(part.get("$ref", "")).rpartition("/")[2]
        resolved = document["components"]["schemas"][name] if name else part
        for field, properties in resolved.get("properties", {}).items():
            descriptions.setdefault(field, properties.get("description", ""))
    return list(descriptions.items())


def _table(title: str, rows: list[tuple[str, str]]) -> Iterator[str]:
    if rows:
        yield f"<p><b>{title}</b></p><table>"
        for name, text in rows:
            yield f"<tr><td><code>{escape(name)}</code></td><td>{escape(_strip_markdown(text))}</td></tr>"
        yield "</table>"


def _strip_markdown(text: str) -> str:
    return text.replace("**", "").replace("`", "")
