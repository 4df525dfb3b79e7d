"""Train the built-in encoder's heads.

    python -m maxsight.models.builtin.training.train --data DIR --out heads.safetensors

Fetches the pictures' packages into DIR (npm and apt must be there), draws them, runs the frozen
towers over them once, and trains three perceptrons on the features, which become one. What was
tried and what it gave stands in MODEL_CARD.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from maxsight.models.builtin import heads, image_tower, towers, weights
from maxsight.models.builtin.training import packages
from maxsight.models.builtin.training.training_set import (
    PictureFeatures,
    class_name_vectors,
    classifier_features,
    extract,
    sentence_vectors,
    training_split,
)

_LOG = logging.getLogger("maxsight.train")


@dataclass(frozen=True)
class Recipe:
    """Every number that the heads depend on.

    Attributes:
        members: perceptrons trained apart, from seeds 0 on, and joined.
        hidden: width of each.
        noise: standard deviation of the noise on the features, in their own.
        joint_share: of the loss on the scores of ConSE and perceptron together; the rest is on
            the perceptron's alone.
        conse_scale: inverse temperature of ConSE's scores in the joint loss.
        class_share: weight of the loss on classifier rows and class names, without which
            photographs lose what ImageNet taught the trunk.
        class_batch: class names in a step.
        sentences: sampled for each picture, beside its caption.
    """

    members: int = 3
    hidden: int = 512
    epochs: int = 20
    batch: int = 1_024
    learning_rate: float = 1e-3
    weight_decay: float = 0.2
    dropout: float = 0.3
    noise: float = 0.1
    joint_share: float = 0.5
    conse_scale: float = 12.0
    class_share: float = 0.15
    class_batch: int = 256
    sentences: int = 4


class Perceptron(nn.Module):
    """One member while it trains: pictures by a perceptron, texts by a linear residual."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.linear = nn.Linear(image_tower.WIDTH, heads.DIM)
        self.hidden = nn.Linear(image_tower.WIDTH, recipe.hidden)
        self.narrow = nn.Linear(recipe.hidden, heads.DIM)
        self.text_residual = nn.Linear(heads.DIM, heads.DIM)
        nn.init.zeros_(self.text_residual.weight)
        nn.init.zeros_(self.text_residual.bias)
        self.log_scale = nn.Parameter(torch.tensor(3.0))
        self.dropout = nn.Dropout(recipe.dropout)

    def raw(self, x: Tensor) -> Tensor:
        x = self.dropout(x)
        y: Tensor = self.linear(x) + self.narrow(self.dropout(F.gelu(self.hidden(x))))
        return y

    def text(self, centred: Tensor) -> Tensor:
        return F.normalize(centred + self.text_residual(centred), dim=-1)


def train(
    features: PictureFeatures, sentences: Tensor, classes: Tensor, rows: Tensor
) -> heads.Heads:
    """The heads.

    Args:
        features: of N training pictures.
        sentences: (N, S, 384), unit vectors of sentences about them.
        classes: (1000, 384), unit vectors of class names.
        rows: (1000, 1280), the classifier's rows as features.
    """
    recipe = Recipe()
    result = heads.Heads()
    result.class_vectors = classes
    result.feature_mean = features.pooled.mean(0)
    result.feature_scale = features.pooled.std(0) + 0.1  # some features hardly ever vary
    x = (features.pooled - result.feature_mean) / result.feature_scale
    x_rows = (rows - result.feature_mean) / result.feature_scale
    conse = heads.class_name_mix(features.logits, classes)
    captions = {c: i for i, c in enumerate(dict.fromkeys(p.caption for p in features.pictures))}
    names = torch.tensor([captions[p.caption] for p in features.pictures])
    members = [
        _train_member(recipe, seed, x, x_rows, conse, names, sentences, classes)
        for seed in range(recipe.members)
    ]
    _join(members, x, result)
    return result


def _train_member(
    recipe: Recipe,
    seed: int,
    x: Tensor,
    x_rows: Tensor,
    conse: Tensor,
    names: Tensor,
    sentences: Tensor,
    classes: Tensor,
) -> Perceptron:
    torch.manual_seed(seed)
    member = Perceptron(recipe)
    optimizer = torch.optim.AdamW(
        member.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    steps_an_epoch = len(x) // recipe.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, recipe.epochs * steps_an_epoch, pct_start=0.1
    )
    mean = classes.mean(0)
    for epoch in range(recipe.epochs):
        for chosen in torch.split(torch.randperm(len(x)), recipe.batch)[:steps_an_epoch]:
            which = torch.randint(sentences.shape[1], (len(chosen),))
            texts = sentences[chosen, which]
            noisy = x[chosen] + recipe.noise * torch.randn(len(chosen), x.shape[1])
            pictures = F.normalize(member.raw(noisy), dim=-1)
            scale = member.log_scale.clamp(max=4.6).exp()
            scores = scale * pictures @ member.text(texts - mean).T
            by_name = F.normalize(texts - heads.CENTRING * mean, dim=-1)
            together = scores + recipe.conse_scale * conse[chosen] @ by_name.T
            same = (names[chosen][:, None] == names[chosen]).float()
            loss = (1 - recipe.joint_share) * _contrastive(scores, same)
            loss = loss + recipe.joint_share * _contrastive(together, same)

            asked = torch.randint(len(classes), (recipe.class_batch,))
            guesses = F.normalize(member.raw(x_rows[asked]), dim=-1)
            logits = scale * guesses @ member.text(classes - mean).T
            loss = loss + recipe.class_share * F.cross_entropy(logits, asked)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        _LOG.info("member %d, epoch %d: loss %.3f", seed, epoch + 1, loss.item())
    return member.eval()


def _contrastive(scores: Tensor, same: Tensor) -> Tensor:
    """Mean cross-entropy both ways; pictures of one name share the credit."""
    target = same / same.sum(1, keepdim=True)
    pictures = -(target * scores.log_softmax(1)).sum(1).mean()
    texts = -(target * scores.T.log_softmax(1)).sum(1).mean()
    return (pictures + texts) / 2


@torch.no_grad()
def _join(members: list[Perceptron], x: Tensor, result: heads.Heads) -> None:
    """Write the members' mean into ``result`` as one perceptron.

    A member scores v . (t + R t) = (v + R'v) . t, so its text residual moves into its last layers
    and texts stay MiniLM's. Dividing by the mean length of v gives members one weight.
    """
    linear = torch.zeros(heads.DIM, image_tower.WIDTH)
    bias = torch.zeros(heads.DIM)
    narrow = []
    for member in members:
        turn = (torch.eye(heads.DIM) + member.text_residual.weight).T
        turn = turn / member.raw(x).norm(dim=-1).mean() / len(members)
        linear += turn @ member.linear.weight
        bias += turn @ (member.linear.bias + member.narrow.bias)
        narrow.append(turn @ member.narrow.weight)
    result.linear.load_state_dict({"weight": linear, "bias": bias})
    result.narrow.load_state_dict({"weight": torch.cat(narrow, dim=1)})
    result.hidden.load_state_dict(
        {
            "weight": torch.cat([member.hidden.weight for member in members]),
            "bias": torch.cat([member.hidden.bias for member in members]),
        }
    )


def recipe_hash() -> str:
    """sha256 over the recipe, the picture packages and the towers' weights."""
    clipart, names = packages.TRAINING_CLIPART, packages.EMOJI_NAMES
    identity = {
        "recipe": asdict(Recipe()),
        "pictures": [asdict(package) for package in packages.TRAINING_EMOJI.values()],
        "clipart": asdict(clipart),
        "names": asdict(names),
        "towers": [weights.IMAGE_TOWER.sha256, weights.TEXT_TOWER.sha256],
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder for fetched packages")
    parser.add_argument("--out", type=Path, required=True, help="where to write the heads")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory with NaN is a check of torch's own; it costs a third of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_num_threads(1)  # sums would differ in the last bit with the number of threads
    started, cpu_started = time.monotonic(), time.process_time()

    def log_time(stage: str) -> None:
        wall, cpu = time.monotonic() - started, time.process_time() - cpu_started
        children = sum(os.times()[2:4])
        _LOG.info("%s after %.1f minutes (CPU %.1f)", stage, wall / 60, (cpu + children) / 60)

    device = torch.device("cpu")
    paths = {file: weights.locate(file) for file in weights.TOWERS}
    for file, path in paths.items():
        weights.verify(file, path)
    tower = towers.read_image_tower(
        paths[weights.IMAGE_TOWER], device=device, dtype=towers.image_dtype(device)
    )
    sentences = towers.SentenceEncoder(
        paths[weights.TEXT_TOWER], paths[weights.TOKENIZER], device=device
    )
    features = extract(training_split(options.data), tower)
    log_time(f"features of {len(features.pictures)} pictures")
    draw = random.Random(0)
    vectors = sentence_vectors(features.pictures, sentences, each=Recipe().sentences, draw=draw)
    log_time("sentences")
    rows = classifier_features(tower, like=features.pooled)
    trained = train(features, vectors, class_name_vectors(sentences), rows)
    log_time("training")
    state = {name: tensor.half().contiguous() for name, tensor in trained.state_dict().items()}
    metadata = {"schema": heads.SCHEMA, "recipe": recipe_hash()}
    save_file(state, options.out, metadata=metadata)
    digest = hashlib.sha256(options.out.read_bytes()).hexdigest()
    _LOG.info("%s: pin its sha256 in weights.py: %s", options.out, digest)


if __name__ == "__main__":
    main()
