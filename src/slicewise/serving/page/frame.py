"""What stands around every tab: title, notices, the headline of a finding, what is known of the model."""

import html
from collections.abc import Mapping, Sequence
from typing import Any, Final

import streamlit as st
from PIL import Image, ImageDraw

from slicewise.domain.classes import TUMOUR_OR_NOT
from slicewise.domain.labels import NOTICE, SYNTHETIC_WARNING, TASKS
from slicewise.domain.wording import reword
from slicewise.serving.page import finding as findings
from slicewise.serving.page import wording
from slicewise.serving.page.viewer import ASSETS

_TASK_WORDS: Final = {"segmentation": "outlines", "classification": "finds"}


def favicon() -> Image.Image:
    """Return the icon of the tab; an emoji would be fetched from another site."""
    icon = Image.new("RGBA", (64, 64))
    pen = ImageDraw.Draw(icon)
    pen.ellipse((4, 2, 60, 62), fill="#334155")
    pen.ellipse((32, 18, 50, 36), fill="#ea580c")
    return icon


def show_top(info: Mapping[str, Any] | None) -> None:
    """Show the title and the notices; those of the model where the API has described it."""
    st.html(ASSETS / "page.css")
    notices = [f'<p class="sw-notice" role="note">{reword(NOTICE)}</p>']
    if info is not None and info["synthetic"]:
        notices += [f'<p class="sw-notice synthetic" role="note">{reword(SYNTHETIC_WARNING)}</p>']
    purpose = reword(_purpose(info)) if info is not None else ""
    st.html(
        f'<div class="sw-top"><h1>SliceWise</h1><p>{html.escape(purpose)}</p></div>'
        f'<div class="sw-notices">{"".join(notices)}</div>'
    )


def _purpose(info: Mapping[str, Any]) -> str:
    names = [name.replace("_", " ") for name in info["class_names"]]
    if len(names) > 2:
        return f"Tells {wording.enumeration(names)} apart in pictures."
    verbs = [_TASK_WORDS[task] for task in reversed(TASKS) if task in info["tasks"]]
    return f"{' and '.join(verbs).capitalize()} brain tumours in MRI pictures and volumes."


def show_headline(finding: dict[str, Any]) -> None:
    """Show whose finding it is, the verdict, and what is to be known before it is read."""
    verdict = wording.verdict(finding)
    badge = ""
    if verdict is not None:
        words = [verdict]
        if (probability := verdict_probability(finding)) is not None:
            words.append(wording.percent(probability))
        badge = f'<span class="sw-verdict {tone(finding)}">{html.escape(" · ".join(words))}</span>'
    st.html(
        f'<div class="sw-head"><h2>{html.escape(findings.case_name(finding))}</h2>{badge}'
        f"<span>{html.escape(findings.read_as(finding))}</span></div>"
    )
    if remarks := findings.remarks(finding):
        st.caption("  \n".join(map(wording.plain, remarks)))
    for note in findings.warnings(finding):
        st.warning(wording.plain(note), icon=":material/warning:")


def tone(finding: dict[str, Any]) -> str:
    """Return the CSS class of a verdict."""
    if finding["verdict"] != finding["label"]:
        return "uncertain"
    if finding["class_probabilities"]:
        return "neutral"
    return "negative" if finding["label"] == TUMOUR_OR_NOT.absence else "positive"


def verdict_probability(finding: dict[str, Any]) -> float | None:
    """Return the probability of a tumour, or of the one of several classes that is the label."""
    shares = finding["class_probabilities"]
    if shares:
        return float(shares[finding["label"]])
    probability: float | None = finding["tumour_probability"]
    return probability


def show_metrics(metrics: Sequence[tuple[str, str]]) -> None:
    for column, (name, value) in zip(st.columns(max(3, len(metrics))), metrics, strict=False):
        column.metric(name, value, border=True)


def show_origin(finding: dict[str, Any]) -> None:
    """Show how the finding was made."""
    st.caption(f"Predicted in {finding['seconds']:.1f} s. {wording.sentence(finding['origin'])}.")


def show_model(info: Mapping[str, Any]) -> None:
    with st.expander("About the model"):
        st.markdown("\n".join(f"- **{name}:** {value}" for name, value in _model_rows(info).items()))


def _model_rows(info: Mapping[str, Any]) -> dict[str, str]:
    model = info["model"]
    kinds = {"volume": "Volumes", "picture": "Pictures"}
    return {
        "Model": f"{model['architecture']} with {model['encoder']}, stage {info['stage']}",
        "Trained on": info["data_name"] + (" (generated patients)" if info["synthetic"] else ""),
        "Predicts": wording.enumeration(info["tasks"]),
        "Input": f"{wording.enumeration([*map(wording.sequence, info['preprocessing']['channels'])])}, "
        f"{info['preprocessing']['image_size']} pixels square",
        **{
            kinds[
                kind
            ]: f"{wording.operating_point(point, info['tasks'])}. {wording.sentence(point['origin'])}"
            for kind, point in info["operating_points"].items()
        },
        "Device": info["device"],
        "Backend": info["backend"],
        "Fingerprint": f"`{info['fingerprint'][:12]}`",
        **{
            f"{wording.class_label(name)} (validation)": f"{value:.3f}"
            for name, value in info["metrics"].items()
            if not name.startswith("val_")  # losses
        },
    }
