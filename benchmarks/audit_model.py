"""Does the shipped model remember its training exams, and would the audit notice?

    python -m benchmarks.audit_model [--clips 48] [--samples 32] [--train 150] [--steps 60]

1. Samples from reports of training exams are audited against training and test exams.
2. Membership inference on the shipped model: training beside test exams.
3. The same after `--steps` of further training on a few clips alone, test exams until then: a
   model that remembers on purpose, the positive control of the attack.

Exams are those of `phantom/64_full` by its recipe (seed 0, 6,000 exams).
"""

import argparse
import functools
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.audit import clean_tables, say, scores_table
from ffa_sora_jax.diffusion.objective import Objective
from ffa_sora_jax.pipelines.text_to_video import TextToVideo
from ffa_sora_jax.privacy import membership, verdict
from ffa_sora_jax.privacy.audit import Options, Subject, gather
from ffa_sora_jax.privacy.denoising import denoising_loss
from tfds_ffa.phantom import exams

RECIPE = exams.Recipe(size=64, schedule="full", seed=0, num_exams=6000)
LEARNT = 8  # clips that are learnt by heart
LEARNING_RATE = 3e-4


@functools.cache
def exam(index):
    return exams.render(RECIPE, index)


def subject(index):
    made = exam(index)
    return Subject(
        made["exam_id"], made["exam_id"], lambda: exam(index)["video"][..., 0], made["report"],
        made["patient_id"], made["eye"],
    )  # fmt: skip


def main(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    for name, default in (("clips", 48), ("samples", 32), ("train", 150), ("steps", 60)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args(argv)
    model = TextToVideo.from_pretrained()
    train = spread(RECIPE.by_split["train"], max(args.train, args.clips))
    test = spread(RECIPE.by_split["test"], max(args.train // 2, args.clips) + LEARNT)
    learnt, test = test[:LEARNT], test[LEARNT:]
    audit_samples(model, train, test, args)
    loss = denoising_loss(model)
    others = losses(loss, test[: args.clips])
    attack("the shipped model, training exams", losses(loss, train[: args.clips]), others)
    attack("the shipped model, exams to be learnt", losses(loss, learnt), others)
    learn(model, learnt, args.steps)
    loss = denoising_loss(model)
    others = losses(loss, test[: args.clips])
    attack(f"{args.steps} steps later, learnt exams", losses(loss, learnt), others)
    return 0


def spread(indices, count):
    places = np.linspace(0, len(indices) - 1, count).round().astype(int)
    rng = np.random.default_rng(0)
    return [indices[i] for i in rng.permutation(places)]


def audit_samples(model, train, test, args):
    chosen = train[: args.samples]
    start = time.monotonic()
    results = model(
        [exam(i)["report"] for i in chosen], seed=list(range(len(chosen))), batch_size=8
    )
    say(f"{len(chosen)} samples, {(time.monotonic() - start) / len(chosen):.1f} s each")
    made = [
        Subject(f"sample-{i}", f"sample-{i}", functools.partial(np.asarray, result.video),
                result.report)
        for i, result in enumerate(results)
    ]  # fmt: skip
    options = Options()
    evidence = gather(made, [subject(i) for i in train], [subject(i) for i in test], options)
    report = verdict.conclude(evidence, options)
    clean_tables(report)
    scores_table(evidence)
    for k, r in report["nearness"]["grey+vessels"]["by_report"]["train"]["recall"].items():
        say(f"  Recall@{k} of the report's own exam {r['value']:.3f} ({r['interval'][0]:.3f} .. "
            f"{r['interval'][1]:.3f}), chance {r['chance']:.3f} ({r['chance_interval'][0]:.3f} .. "
            f"{r['chance_interval'][1]:.3f})")  # fmt: skip


def losses(loss, indices):
    made = [(exam(i)["video"], exam(i)["report"]) for i in indices]
    return membership.losses(loss, made)


def attack(name, members, others):
    found = membership.infer(members, others)
    low, high = found.auc_interval
    say(f"{name}, {found.members} beside {found.others} others:")
    say(f"  AUC {found.auc:.3f} ({low:.3f} .. {high:.3f})")
    low, high = found.hits_interval
    say(f"  {found.hits:.2f} ({low:.2f} .. {high:.2f}) named at {found.rate:.2f} false; by level "
        + ", ".join(f"{level} {auc:.2f}" for level, auc in found.auc_by_level.items()))  # fmt: skip


def learn(model, indices, steps):
    """Trains the transformer on a few exams alone, in place."""
    objective = Objective(
        schedule=model.sampling.schedule, prediction=model.sampling.prediction, stratified=True
    )
    vae, encoder = model.parts["vae"], model.parts["text_encoder"]
    video = np.stack([exam(i)["video"] for i in indices]).astype(np.float32) / 127.5 - 1
    x0 = vae.normalize(vae.encode(video)[0])
    ids, mask = model.tokenizer.encode(
        [exam(i)["report"] for i in indices], model.sampling.text_length
    )
    text = encoder(ids, mask)
    network = model.parts["transformer"]
    optimizer = optax.adam(LEARNING_RATE)

    def error(params, key):
        def denoise(x_t, t, cond):
            return network.bundle.apply(params, x_t, t, *cond)

        return objective.loss(denoise, key, x0, (text, mask))[0].mean()

    @jax.jit
    def step(params, state, key):
        value, grads = jax.value_and_grad(error)(params, key)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), network.params)
    state = optimizer.init(params)
    for number in range(steps):
        params, state, value = step(params, state, jax.random.fold_in(jax.random.key(1), number))
        if number % 20 == 0 or number == steps - 1:
            say(f"  step {number}: loss {float(value):.4f}")
    model.parts["transformer"] = type(network)(network.class_name, network.bundle, params)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
