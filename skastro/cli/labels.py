"""The commands `skastro label` and `audit`."""

from __future__ import annotations

import getpass
import secrets
import threading
import webbrowser
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skastro.cli import options as o
from skastro.cli.terminal import Terminal, load_libraries, print_line, show_table, talking
from skastro.utils.progress import Progress, reporting

if TYPE_CHECKING:
    import pandas as pd

    from skastro.embeddings.files import Embeddings
    from skastro.estimators.encoder import PropertyPretrainedEncoder
    from skastro.pages.label_session import LabelSession
    from skastro.surveys.survey import Survey
    from skastro.utils.progress import Say

_N_SHOWN = 20  # doubtful labels that are printed
_LOOK_SECONDS = 0.5  # between two looks whether the server still runs


def label(
    folder: o.Folder = None,
    labels_out: Annotated[
        Path, typer.Option(help="Journal of the answers; one that exists is gone on with.")
    ] = Path("labels.csv"),
    classes: Annotated[
        str | None,
        typer.Option(help="Classes to begin with, with commas; the page can add others."),
    ] = None,
    find: Annotated[
        str | None, typer.Option(help="Search for one rare class, by yes and no: --find lens.")
    ] = None,
    who: Annotated[
        str | None,
        typer.Option(help="Name of the person, for the journal.", show_default="the login name"),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of this machine.", show_default="a free one")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
    labels: o.Labels = None,
    label: Annotated[
        str | None, typer.Option(help="Column of classes to begin with.", show_default="none")
    ] = None,
    catalog: o.Catalog = None,
    images: o.Images = None,
    id: o.Id = None,
    ra: o.Ra = None,
    dec: o.Dec = None,
    size: o.CutTo = None,
    bands: o.Bands = None,
    hdu: o.Hdu = None,
    axes: o.Axes = None,
    missing_bands: o.MissingBands = "error",
    unlabelled: o.Unlabelled = "unknown",
    encoder: o.Encoder = None,
    properties: o.Properties = None,
    errors: o.Errors = None,
    backbone: o.Backbone = None,
    epochs: o.Epochs = None,
    seed: o.Seed = 0,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Label objects in the browser, one key for each, while a classifier learns.

    The page shows the objects that teach most, says how good the classifier is, and how much
    better it gets with more labels. Each answer is in the journal before the next object is shown:
    after an interruption the same command goes on, without embedding the stamps again. Ctrl-C
    ends it.

    `skastro classify --labels labels.csv` reads the journal.

    Without --encoder, weights of skastro describe the stamps where they know enough about them;
    else an encoder is pretrained first, and kept beside the journal.
    """
    with ExitStack() as stack:
        with talking(quiet=quiet, lines=json) as terminal:
            if find is not None and classes is not None:
                raise ValueError("--find searches for one class: leave --classes out.")
            load_libraries(terminal, jobs, device)
            from skastro.catalogs.journal import LabelJournal
            from skastro.cli import steps
            from skastro.pages.label_columns import KeptColumns
            from skastro.pages.label_learner import LabelLearner
            from skastro.pages.label_server import check_packages
            from skastro.pages.label_session import LabelSession

            check_packages()

            # what there is
            fitted = None if encoder is None else steps.load_encoder(encoder, device=device)
            journal = stack.enter_context(LabelJournal(labels_out))
            survey = steps.load_objects(
                folder, terminal.say, catalog=catalog, images=images, id=id, ra=ra, dec=dec,
                size=size, bands=bands, hdu=hdu, axes=axes, missing_bands=missing_bands,
            )  # fmt: skip
            known = None
            if labels or label:
                known = steps.find_labels(
                    survey.ids, survey.catalog, labels, label, unlabelled, fewest=0,
                    say=terminal.say,
                )  # fmt: skip
            session = LabelSession(
                journal, survey.ids, survey.images,
                catalog=survey.catalog.drop(columns=label or "class", errors="ignore"),
                title=folder.absolute().name if folder else "stamps",
                classes=o.split_names(classes), find=find, who=who or _login_name(),
                say=terminal.say,
            )  # fmt: skip
            _take_up(session, known, terminal)

            # the page, which shows the progress of the rest
            server, address = _serve(stack, session, port)
            _announce(address, terminal, open_browser=browser)
            with reporting(_both(terminal.progress, session.report)):
                kept = KeptColumns(_beside(journal.path, "columns.npz"), survey.images)
                if fitted is None:
                    fitted = _find_encoder(
                        survey, journal.path, kept.weights, terminal, properties=properties,
                        errors=errors, label=label, backbone=backbone, epochs=epochs,
                        device=device, seed=seed,
                    )  # fmt: skip
                learner = LabelLearner.from_encoder(fitted, kept, random_state=seed)
            session.begin(learner)
            terminal.say("The page asks now; Ctrl-C here ends it, and the same command goes on.")
        _wait(server)
    n, counts = session.record.n_labelled, session.record.counts()
    if terminal.prints:
        print_line(f"{n:,} labels are in {labels_out}, for `skastro classify --labels`.")
    terminal.result(journal=labels_out, labelled=n, classes=counts)


def _take_up(session: LabelSession, known: Any, terminal: Terminal) -> None:
    """Say what the journal holds, and add labels of tables or the catalogue to it."""
    record = session.record
    for note in record.journal.notes:
        terminal.say(note)
    if record.n_lost:
        terminal.say(
            f"{record.n_lost:,} lines of {record.journal.path} are of other objects, and stay."
        )
    if record.n_labelled:
        terminal.say(f"{record.n_labelled:,} labels are in {record.journal.path} already.")
    if known is not None:
        n = record.start_from(known, session.who)
        terminal.say(f"{n:,} labels are taken over into {record.journal.path}.")


def _find_encoder(
    survey: Survey,
    journal: Path,
    weights: str,
    terminal: Terminal,
    *,
    properties: str | None,
    errors: str | None,
    label: str | None,
    backbone: str | None,
    epochs: int | None,
    device: str,
    seed: int,
) -> PropertyPretrainedEncoder:
    """Return the encoder of an earlier call, weights of skastro that suit, or a pretrained one.

    ``weights`` names those that an earlier call has chosen for the same stamps.
    """
    from skastro.cli import steps
    from skastro.estimators.pretrained import choose_teacher, load_pretrained

    kept = _beside(journal, "encoder.safetensors")
    asked = [value is not None for value in (properties, errors, backbone, epochs)]
    if kept.is_file():
        terminal.say(f"The encoder of an earlier call describes the stamps: {kept}.")
        return steps.load_encoder(kept, device=device)
    teacher = None
    if not any(asked):
        teacher = load_pretrained(weights) if weights else choose_teacher(survey.images)
    if teacher is not None:
        terminal.say(f"The weights {teacher.weights!r} of skastro describe the stamps.")
        return teacher.set_params(device=device)
    terminal.say(f"An encoder is pretrained on the stamps, and kept in {kept}.")
    encoder = steps.make_encoder(backbone, epochs, device, seed)
    steps.pretrain(encoder, survey, properties, errors, label, terminal.say, kept)
    return encoder


def _beside(journal: Path, ending: str) -> Path:
    return journal.with_name(f"{journal.stem}.{ending}")


def _serve(stack: ExitStack, session: LabelSession, port: int) -> tuple[threading.Thread, str]:
    """Serve the page in a thread until the stack closes; return the thread and the address."""
    from skastro.pages.label_server import open_socket, serve

    token = secrets.token_urlsafe(24)
    listener = stack.enter_context(open_socket(port))
    server = serve(session, listener, token)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)

    def end() -> None:
        server.should_exit = True
        thread.join()
        session.close()

    thread.start()
    stack.callback(end)
    return thread, f"http://127.0.0.1:{listener.getsockname()[1]}/?token={token}"


def _announce(address: str, terminal: Terminal, *, open_browser: bool) -> None:
    """Print the address, also with --quiet, because there is no other way to it; open the page."""
    if terminal.lines:
        terminal.result(address=address)
    else:
        print_line(f"Label here: {address}")
    if open_browser:
        webbrowser.open(address)


def _wait(server: threading.Thread) -> None:
    """Wait for Ctrl-C."""
    with suppress(KeyboardInterrupt):
        while server.is_alive():
            server.join(_LOOK_SECONDS)


def _both(*listeners: Progress) -> Progress:
    """Return a function that passes progress on to several others."""

    def report(stage: str, done: int, total: int | None) -> None:
        for listener in listeners:
            listener(stage, done, total)

    return report


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no such user, or none on this system
        return ""


def audit(
    source: o.Source,
    out: Annotated[Path, typer.Option(help="Table for the doubtful labels.")] = Path(
        "doubtful.csv"
    ),
    labels: o.Labels = None,
    label: o.ClassLabel = "class",
    encoder: o.Encoder = None,
    bands: o.Bands = None,
    hdu: o.Hdu = None,
    axes: o.Axes = None,
    missing_bands: o.MissingBands = "error",
    catalog: o.Catalog = None,
    id: o.Id = None,
    unlabelled: o.Unlabelled = "unknown",
    noise: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="Share of wrong labels that you expect.")
    ] = 0.05,
    seed: o.Seed = 0,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Find labels that are probably wrong, and the class that they would be.

    Each label is predicted from all others. The table has the labels for which another class is
    more probable, most likely wrong first: look at them again.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        from skastro.catalogs.writing import TABLES, write_table

        target = o.check_target(out, TABLES, overwrite=overwrite)
        load_libraries(terminal, jobs, device)
        from skastro.cli import steps
        from skastro.evaluation.label_audit import audit_labels

        rows, table, n_properties = _load_rows(
            source, encoder, device, catalog, id, terminal.say, bands=bands, hdu=hdu, axes=axes,
            missing_bands=missing_bands,
        )  # fmt: skip
        known = steps.find_labels(rows.ids, table, labels, label, unlabelled, say=terminal.say)
        terminal.progress("auditing", 0, None)
        doubtful = audit_labels(
            rows.values, known, n_properties=n_properties, ids=rows.ids, noise=noise,
            random_state=seed,
        )  # fmt: skip
        write_table(target, doubtful)
        n_labels = int((known != "").sum())
        terminal.result(
            out=target, labels=n_labels, doubtful=len(doubtful),
            expected_wrong=round(float(doubtful["probability"].sum()), 1),
        )  # fmt: skip
    if terminal.prints:
        if len(doubtful):
            show_table(doubtful.head(_N_SHOWN))
        print_line(
            f"For {len(doubtful):,} of {n_labels:,} labels another class is more probable, as the "
            "other labels tell."
        )
        print_line(f"Doubtful labels: {target}")


def _load_rows(
    source: Path,
    encoder: Path | None,
    device: str,
    catalog: Path | None,
    id: str | None,
    say: Say,
    **options: Any,
) -> tuple[Embeddings, pd.DataFrame | None, int]:
    """Return columns that describe objects, their catalogue, and how many are properties.

    With an encoder, the properties that it predicts and those measured from the pixels are columns
    after the embedding. ``options`` are those of `read_data`.
    """
    import numpy as np

    from skastro.cli import steps
    from skastro.embeddings.files import Embeddings
    from skastro.estimators.representation import join_columns
    from skastro.stamps.photometry import measure_properties

    if encoder is None:
        rows, table, n_properties = steps.find_embeddings(source), None, 0
    else:
        fitted = steps.load_encoder(encoder, device=device)
        survey = steps.load_objects(source, say, **options)
        embeddings = np.asarray(fitted.transform(survey.images))
        columns = join_columns(fitted, embeddings, measure_properties(survey.images))
        rows, table = Embeddings(columns.astype(np.float32), survey.ids), survey.catalog
        n_properties = columns.shape[1] - embeddings.shape[1]
    if catalog is not None:
        kept, table = steps.match_catalog(rows, catalog, id=id, say=say)
        rows = Embeddings(rows.values[kept], rows.ids[kept])
    return rows, table, n_properties
