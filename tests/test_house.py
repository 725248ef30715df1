"""The rules of the house, read from the source text: layers, allow-lists, docstrings, sizes."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ffa_sora_jax"
SOURCES = ("ffa_sora_jax", "tfds_ffa", "configs")

# A folder imports from lower layers and from itself, never from a folder of its own layer. Metrics
# open the weights of their networks; jobs are the verbs of the command line and drive what lies
# below.
LAYERS = {
    "common": 0, "video": 0,
    "phantom": 1, "models": 1, "diffusion": 1, "losses": 1, "data": 1,
    "convert": 2,
    "metrics": 3,
    "tasks": 4, "pipelines": 4,
    "train": 5, "privacy": 5,
    "jobs": 6,
    "cli": 7, "__init__": 7, "__main__": 8,
}  # fmt: skip
NNX_ALLOWED = {
    "Module", "Param", "Rngs", "List", "data", "Linear", "Conv", "ConvTranspose", "Embed",
    "LayerNorm", "RMSNorm", "GroupNorm", "initializers", "eval_shape", "split", "merge",
    "to_pure_dict", "state",
}  # fmt: skip
# Absent from bare GPU images and TPU hosts, or only needed at one edge.
OPTIONAL = (
    "tensorflow", "tensorflow_datasets", "grain", "array_record", "clu", "torch", "av", "pydicom",
    "gradio", "transformers",
)  # fmt: skip
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 120


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_modules(path: Path) -> Iterator[str]:
    """Dotted names of everything a file imports, inside functions too."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def folder_of(path: Path) -> str:
    """The layer name of a file of the package: its folder, or its stem at the top."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def illegal_import(importer: str, module: str) -> str | None:
    """Why folder `importer` may not import `module`, or None."""
    parts = module.split(".")
    if parts[0] in ("tfds_ffa", "configs"):
        return None if importer == "cli" else f"{parts[0]} is opened by directory, never imported"
    if parts[0] != "ffa_sora_jax" or len(parts) == 1:
        return None
    target = parts[1]
    if target not in LAYERS or target == importer:
        return None
    if LAYERS[target] < LAYERS[importer]:
        return None
    return f"{importer} (layer {LAYERS[importer]}) imports {target} (layer {LAYERS[target]})"


def test_layer_rule_can_fail():
    assert illegal_import("diffusion", "ffa_sora_jax.models.dit")
    assert illegal_import("models", "ffa_sora_jax.train.loop")
    assert illegal_import("data", "tfds_ffa.phantom")
    assert not illegal_import("tasks", "ffa_sora_jax.models.dit")
    assert not illegal_import("models", "ffa_sora_jax.models.layers")


def test_every_folder_has_a_layer():
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and list(p.glob("*.py"))}
    modules = {p.stem for p in PACKAGE.glob("*.py")}
    assert folders | modules <= set(LAYERS)


def test_imports_follow_the_layers():
    broken = [
        f"{path.relative_to(ROOT)}: {why}"
        for path in python_files("ffa_sora_jax")
        for module in imported_modules(path)
        if (why := illegal_import(folder_of(path), module))
    ]
    assert not broken, "\n".join(broken)


def test_builders_import_only_video_phantom_common():
    allowed = ("ffa_sora_jax.video", "ffa_sora_jax.phantom", "ffa_sora_jax.common")
    broken = [
        f"{path.relative_to(ROOT)}: {module}"
        for path in python_files("tfds_ffa")
        for module in imported_modules(path)
        if module.startswith("ffa_sora_jax.") and not module.startswith(allowed)
    ]
    assert not broken, "\n".join(broken)


def test_configs_import_nothing_of_the_package():
    allowed = {"ml_collections", "configs", *sys.stdlib_module_names}
    broken = [
        f"{path.relative_to(ROOT)}: {module}"
        for path in python_files("configs")
        for module in imported_modules(path)
        if module.split(".")[0] not in allowed
    ]
    assert not broken, "\n".join(broken)


def test_nothing_imports_tensorflow_and_torch_stays_at_its_edge():
    broken = []
    for path in python_files(*SOURCES):
        for module in imported_modules(path):
            top = module.split(".")[0]
            at_edge = top == "torch" and path.is_relative_to(PACKAGE / "convert")
            if top in ("tensorflow", "torch") and not at_edge:
                broken.append(f"{path.relative_to(ROOT)}: {module}")
    assert not broken, "\n".join(broken)


def test_models_use_only_the_allowed_part_of_nnx():
    broken = []
    for path in python_files(*SOURCES):
        in_models = path.is_relative_to(PACKAGE / "models")
        for node in ast.walk(parse(path)):
            if not isinstance(node, ast.Attribute):
                continue
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            is_nnx = isinstance(node.value, ast.Name) and node.value.id == "nnx"
            is_own = isinstance(node.value, ast.Name) and node.value.id == "self"  # a layer's name
            if is_nnx and not in_models:
                broken.append(f"{where}: nnx.{node.attr} outside models/")
            elif is_nnx and node.attr not in NNX_ALLOWED:
                broken.append(f"{where}: nnx.{node.attr} is not on the list")
            elif in_models and node.attr == "value" and not is_own:
                broken.append(f"{where}: .value is deprecated, index the parameter instead")
    assert not broken, "\n".join(broken)


def test_core_imports_without_optional_packages():
    """models, diffusion, convert, train and the sampling path need only the jax stack."""
    folders = ("common", "models", "diffusion", "data", "convert", "metrics", "tasks", "train")
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for folder in folders
        for path in python_files(f"ffa_sora_jax/{folder}")
        if path.stem != "__init__"
    ]
    modules += ["ffa_sora_jax.pipelines.text_to_video", "ffa_sora_jax.cli"]
    code = (
        "import importlib, sys\n"
        f"for name in {OPTIONAL!r}: sys.modules[name] = None\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_host_side_folders_need_no_jax():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in python_files("ffa_sora_jax/phantom", "ffa_sora_jax/video", "configs")
        if path.stem != "__init__"
    ]
    code = (
        "import importlib, sys\n"
        "for name in ('jax', 'flax', 'tensorflow', 'torch'): sys.modules[name] = None\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def public_definitions(tree: ast.Module) -> Iterator[ast.AST]:
    """The module, its public classes and functions, and the public methods of those classes."""
    yield tree
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in tree.body:
        if isinstance(node, kinds) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (
                    item
                    for item in node.body
                    if isinstance(item, kinds) and not item.name.startswith("_")
                )


def is_overload_or_override(node: ast.AST) -> bool:
    """Abstract builder methods of TFDS are documented by their base class."""
    names = {ast.unparse(d) for d in getattr(node, "decorator_list", [])}
    return bool(names & {"overload", "typing.overload", "override", "typing.override"})


def test_every_public_name_has_a_docstring():
    missing = [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)} {getattr(node, 'name', 'module')}"
        for path in python_files(*SOURCES)
        if path.stat().st_size
        for node in public_definitions(parse(path))
        if ast.get_docstring(node) is None and not is_overload_or_override(node)
    ]
    assert not missing, "\n".join(missing)


def test_files_and_functions_stay_short():
    long = []
    for path in python_files(*SOURCES, "tests", "benchmarks"):
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > MAX_FILE_LINES:
            long.append(f"{path.relative_to(ROOT)}: {lines} lines")
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {length}")
    assert not long, "\n".join(long)


def test_no_bare_except_and_no_print_in_the_library():
    broken = []
    for path in python_files(*SOURCES):
        for node in ast.walk(parse(path)):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                broken.append(f"{where}: bare except")
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
                at_edge = "jobs" in path.parts or path.name in ("cli.py", "prepare.py")
                if not at_edge:
                    broken.append(f"{where}: print")
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("folder", ["ffa_sora_jax", "tfds_ffa", "configs", "tests", "docs"])
def test_no_patient_data_formats_in_the_tree(folder):
    """DICOM files carry identities; none may be committed, whatever their name."""
    found = []
    for path in (ROOT / folder).rglob("*"):
        if path.is_file() and path.stat().st_size > 132:
            with path.open("rb") as file:
                if file.read(132)[128:] == b"DICM":
                    found.append(str(path.relative_to(ROOT)))
    assert not found, found


CONFIGS = [path for path in python_files("configs") if path.stem not in ("__init__", "common")]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_says_how_it_is_run(path):
    text = ast.get_docstring(parse(path)) or ""
    assert all(word in text for word in ("Run:", "Hardware:", "Expected:", str(path.name)))


def test_ci_runs_lint_and_tests():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert "make lint" in lines and "make test" in lines
