"""The page at /docs: every route, from the API's own OpenAPI document; without scripts or external files."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from jinja2 import Template

from slicewise.serving.api.openapi import CODE_SAMPLES

_PAGE: Final = Path(__file__).with_name("docs.html.j2")
_MAX_DEPTH: Final = 4
Json = Mapping[str, Any]


class Row(NamedTuple):
    """A line of a table."""

    name: str
    kind: str
    text: str
    depth: int = 0


class Route(NamedTuple):
    """A route on the page."""

    title: str
    anchor: str
    description: str
    tag: str
    curl: str
    example: str
    tables: dict[str, list[Row]]


def render_docs(document: Json) -> str:
    """Return the HTML page of the OpenAPI document."""
    template: Template = Template(_PAGE.read_text("utf-8"), autoescape=True, trim_blocks=True)
    routes = list(_routes(document))
    tags: dict[str, list[Route]] = {}
    for route in routes:
        tags.setdefault(route.tag, []).append(route)
    return template.render(info=document["info"], tags=tags)


def _routes(document: Json) -> Iterator[Route]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            title = f"{method.upper()} {path}"
            content = operation["responses"]["200"]["content"]
            returned = content.get("application/json", {})
            example = returned.get("example", content.get("text/plain", {}).get("example"))
            yield Route(
                title=title,
                anchor="".join(character if character.isalnum() else "-" for character in title).lower(),
                description=operation["description"],
                tag=operation["tags"][0],
                curl=operation[CODE_SAMPLES][0]["source"],
                example=example if isinstance(example, str) else _shown(example),
                tables={
                    "Takes": list(_inputs(operation, document)),
                    "Returns": list(_fields(returned.get("schema", {}), document)),
                    "Status": [
                        Row(code, ", ".join(item.get("content", ())), item["description"])
                        for code, item in operation["responses"].items()
                    ],
                },
            )


def _inputs(operation: Json, document: Json) -> Iterator[Row]:
    for item in operation.get("parameters", ()):
        text = item.get("description", item["schema"].get("description", ""))
        yield Row(f"{item['name']} ({item['in']})", _kind(item["schema"], document), text)
    for content in operation.get("requestBody", {}).get("content", {}).values():
        for row in _fields(content["schema"], document):
            name = f"{row.name} (form)" if row.depth == 0 else row.name
            yield row._replace(name=name, kind=row.kind.replace(" or null", ", optional"))


def _fields(schema: Json, document: Json, depth: int = 0) -> Iterator[Row]:
    """Yield the fields of a schema and of all its alternatives, each followed by those inside it."""
    seen: set[str] = set()
    for part in _parts(schema, document):
        for name, properties in part.get("properties", {}).items():
            if name in seen:
                continue
            seen.add(name)
            yield Row(name, _kind(properties, document), properties.get("description", ""), depth)
            if depth < _MAX_DEPTH:
                yield from _fields(properties, document, depth + 1)


def _parts(schema: Json, document: Json) -> Iterator[Json]:
    """Yield the objects that a schema may be: itself, its alternatives, its items, its values."""
    resolved = _resolve(schema, document)
    yield resolved
    inner = [*resolved.get("anyOf", ()), *resolved.get("oneOf", ())]
    values = (resolved.get(key) for key in ("items", "additionalProperties"))
    for part in (*inner, *(value for value in values if isinstance(value, dict))):
        yield from _parts(part, document)


def _kind(schema: Json, document: Json) -> str:
    """Return the type of a value in words."""
    resolved = _resolve(schema, document)
    if "const" in resolved or "enum" in resolved:
        return " | ".join(map(str, resolved.get("enum", [resolved.get("const")])))
    if parts := resolved.get("anyOf"):
        return " or ".join(dict.fromkeys(_kind(part, document) for part in parts))
    if resolved.get("format") in ("binary", "date-time") or "contentMediaType" in resolved:
        return "date and time" if resolved.get("format") == "date-time" else "file"
    kind = str(resolved.get("type", "any"))
    if kind == "array" and "prefixItems" in resolved:
        return " and ".join(_kind(part, document) for part in resolved["prefixItems"])
    if kind == "array" and isinstance(resolved.get("items"), dict):
        return f"list of {_kind(resolved['items'], document)}"
    if kind == "object" and isinstance(resolved.get("additionalProperties"), dict):
        return f"by name: {_kind(resolved['additionalProperties'], document)}"
    return {"integer": "whole number", "string": "text", "boolean": "true or false"}.get(kind, kind)


def _resolve(schema: Json, document: Json) -> Json:
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    resolved: Json = document["components"]["schemas"][name] if name else schema
    return resolved


def _shown(example: Any) -> str:
    return "" if example is None else json.dumps(example, indent=1, ensure_ascii=False)
