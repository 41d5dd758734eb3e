"""The page: header, sections and samples through one template, in one file."""

from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from rapo_ray.atomic import write_atomically
from rapo_ray.config.judge import JudgeBackendConfig
from rapo_ray.config.load import config_hash
from rapo_ray.errors import ReportError
from rapo_ray.judging.rules import RULES_JUDGE
from rapo_ray.report import (
    evaluation_section,
    heldout_section,
    intervention_section,
    samples,
    terminal,
    training_sections,
)
from rapo_ray.report.evaluation_section import TONES
from rapo_ray.report.parts import NONE, Cell, Notice, Section
from rapo_ray.storage.layout import RunLayout
from rapo_ray.storage.reader import Evidence, read_evidence
from rapo_ray.storage.records import active_alarms

MARK = "\N{WARNING SIGN}"


def write_report(folder: Path) -> Path:
    """Write the folder's report and return its path; raises ReportError or OSError."""
    page = render(read_evidence(folder))
    path = RunLayout(folder).report
    write_atomically(path, lambda temporary: temporary.write_bytes(page.encode("utf-8", "replace")))
    return path


def publish_report(folder: Path) -> None:
    """Write the report and print its path; a failure is one line, as the results are on disk already."""
    from rapo_ray import console

    try:
        console.say(f"report: {write_report(folder)}")
    except (OSError, ReportError) as error:
        console.say(f"no report ({error}); results are in {folder}, `python -m rapo_ray.report {folder}` tries again")


def render(evidence: Evidence) -> str:
    """Render the page as HTML."""
    import jinja2

    templates = Path(str(files("rapo_ray.report"))) / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = samples.choose(evidence)
    last = evidence.last_evaluation
    gate = last.results.gate if last else None
    return (
        environment.get_template("report.html.j2")
        .render(
            name=evidence.config.name if evidence.config else evidence.path.resolve().name,
            what="Run" if evidence.config else "Evaluation",
            about=header(evidence),
            look_at=look_at(evidence),
            gate=Cell(gate.verdict, evaluation_section.title(last), TONES[gate.verdict]) if last and gate else None,
            gate_parts=evaluation_section.gate_parts(gate),
            warnings=evaluation_section.partial_notice(last.results) if last else (),
            sections=sections(evidence),
            samples=shown,
            data=Markup(samples.as_json(shown.rows)),  # as_json escapes
        )
        .lstrip()
    )


def look_at(evidence: Evidence) -> list[Notice]:
    """Active alarms, held-out figures of the mechanism that fell, alarms that are over; none for an evaluation."""
    if evidence.config is None:
        return []
    active = active_alarms(evidence.alarms)
    bad = [f"{one.name}, since round {one.round}: {one.message}" for one in active.values()] + _fell(evidence)
    over = [one for one in evidence.alarms if one.state == "over" and one.name not in active]
    notices = [Notice(f"{MARK} {text}", "bad") for text in bad]
    notices += [Notice(f"{one.name}, over after round {one.round}: {one.message}", "unsure") for one in over]
    return notices or [Notice("No alarm was raised, and no held-out figure of the mechanism fell.")]


def _fell(evidence: Evidence) -> list[str]:
    changes = terminal.mechanism(evidence.summary.delta) if evidence.summary else {}
    return [
        f"held-out {terminal.difference_line(name, change)}"
        for name, change in changes.items()
        if change.ci95 and change.ci95[1] < 0
    ]


def sections(evidence: Evidence) -> list[Section]:
    """All sections before the samples; an evaluation lacks those of a run."""
    if evidence.config is None:
        return [evaluation_section.section(evidence), training_sections.trade_off(evidence)]
    return [
        heldout_section.section(evidence),
        evaluation_section.section(evidence),
        training_sections.trade_off(evidence),
        training_sections.mechanism(evidence),
        training_sections.rewards(evidence),
        training_sections.attacks(evidence),
        training_sections.cases(evidence),
        training_sections.lengths(evidence),
        intervention_section.section(evidence),
        training_sections.judge(evidence),
        training_sections.time(evidence),
    ]


def header(evidence: Evidence) -> list[tuple[str, str]]:
    """Facts about the run or the evaluation, by name."""
    written = evidence.written.strftime("%Y-%m-%d %H:%M UTC") if evidence.written else NONE
    config = evidence.config
    if config is None:  # an evaluation's models and judge stand in its own section
        results = evidence.evaluations[0].results
        models, counts = ", ".join(one.id for one in results.models.values()), results.counts
        return [("models", models), ("rows", f"{counts.finished} of {counts.expected}"), ("results of", written)]
    versions = [metrics.policy_version for metrics in evidence.metrics]
    return [
        ("model", f"{config.model.path}{f' at {config.model.revision}' if config.model.revision else ''}"),
        ("seed", str(config.seed)),
        ("rounds", f"{len(evidence.metrics)} of {config.rounds}{'' if evidence.summary else ', not finished'}"),
        ("a round", f"{config.prompts_per_round} prompts x {config.samples_per_prompt} samples"),
        ("learns by", f"{config.policy.objective}, credit {config.credit.scheme}, parts {config.credit.parts}"),
        *((f"judge, {part}", judge_name(judge)) for part, judge in config.judge.named().items()),
        ("weights", f"versions {min(versions)}-{max(versions) + 1}" if versions else NONE),
        ("config", config_hash(config)[:16]),
        ("results of", written),
    ]


def judge_name(judge: JudgeBackendConfig) -> str:
    """Description of a judge in one line."""
    if judge.backend == "rules":
        return RULES_JUDGE
    revision = f" at {judge.revision}" if judge.revision else ""
    return f"{judge.backend}: {judge.model}{revision}, reply {judge.guard or judge.reply}"
