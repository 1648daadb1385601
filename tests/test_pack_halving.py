"""A training step whose packs do not fit into the memory is taken again in smaller packs."""

import pytest
import torch
from test_packing import LABELS, PROMPT, build, random_rows, relative, with_adapter
from transformers import TrainingArguments

from pipeline.common.cli import UserError
from pipeline.llm.answers import AnswerLoss
from pipeline.llm.packing import use_packs
from pipeline.llm.training import PackTrainer, collate, training_rows

LONGEST = 50 + 500 + 5  # the prompt, and the longest of the rows with its answer


def pack_trainer(max_tokens, least_tokens=LONGEST):
    model = with_adapter(build())
    use_packs(model.get_base_model())
    return PackTrainer(
        PROMPT,
        max_tokens,
        least_tokens=least_tokens,
        model=model,
        args=TrainingArguments(
            "trained", remove_unused_columns=False, report_to="none", use_cpu=True
        ),
        compute_loss_func=AnswerLoss(PROMPT, [1, 1, 1, 1]),
    )


def limit_memory(trainer, most_tokens):
    """Let a model's forward pass fail as on a GPU, half of its work done, beyond so many tokens."""
    passes = []

    def check(model, args, kwargs):
        passes.append(kwargs["input_ids"].numel())
        if passes[-1] > most_tokens:
            raise torch.OutOfMemoryError("CUDA out of memory")

    trainer.model.register_forward_pre_hook(check, with_kwargs=True)
    return passes


def two_batches(trainer):
    """Return the gradients of two batches that make an optimizer step, and the losses' sum."""
    rows = training_rows(PROMPT, random_rows(), LABELS)
    batches = [collate(rows[5:]), collate(rows[:5])]
    trainer.model.zero_grad()
    loss = sum(trainer.training_step(trainer.model, batch, len(rows)) for batch in batches)
    return loss, {n: w.grad for n, w in trainer.model.named_parameters() if w.grad is not None}


def test_a_halved_step_is_the_step_in_packs_that_fit(capsys):
    expected_loss, expected = two_batches(pack_trainer(100_000))
    trainer = pack_trainer(2300)
    passes = limit_memory(trainer, 580)
    loss, gradients = two_batches(trainer)
    assert trainer.max_tokens == 575
    assert max(passes) > 580 and passes[-1] <= 575
    assert relative(loss, expected_loss) < 1e-5
    assert gradients.keys() == expected.keys()
    assert max(relative(gradients[name], expected[name]) for name in expected) < 1e-5
    assert capsys.readouterr().out.count("the step is taken again") == 2


def test_validation_rows_are_predicted_in_packs_that_fit():
    rows = training_rows(PROMPT, random_rows(), LABELS)
    whole, halved = pack_trainer(100_000), pack_trainer(2300)
    limit_memory(halved, 580)
    expected = whole.prediction_step(whole.model, collate(rows), False)
    actual = halved.prediction_step(halved.model, collate(rows), False)
    assert all(relative(a, b) < 1e-5 for a, b in zip(actual[:2], expected[:2], strict=True))
    assert actual[2].tolist() == LABELS


def test_the_validation_loss_is_the_mean_over_the_rows_whatever_the_last_batch_has():
    rows, trainer = training_rows(PROMPT, random_rows(), LABELS), pack_trainer(100_000)
    losses = []
    for batch_size in (len(rows), len(rows) - 1):
        trainer.args.per_device_eval_batch_size = batch_size
        losses.append(trainer.evaluate(rows)["eval_loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_a_row_that_does_not_fit_alone_ends_the_training():
    trainer = pack_trainer(2300)
    limit_memory(trainer, 500)
    with pytest.raises(UserError, match="too small for a row of 555 tokens: give --grad"):
        two_batches(trainer)


def test_what_an_attempt_has_added_before_it_failed_is_taken_back():
    whole, trainer = pack_trainer(100_000), pack_trainer(600)
    _, expected = two_batches(whole)
    passes = []

    def fail_once(model, args):
        passes.append(None)
        if len(passes) == 3:  # the prefix, a pack, and the second one
            raise torch.OutOfMemoryError("CUDA out of memory")

    trainer.model.register_forward_pre_hook(fail_once)
    _, gradients = two_batches(trainer)
    assert trainer.max_tokens == LONGEST and len(passes) > 5
    assert max(relative(gradients[name], expected[name]) for name in expected) < 1e-5
    means, expected_means = (
        part.compute_loss_func.take_means(part.args.device) for part in (trainer, whole)
    )
    assert means == pytest.approx(expected_means, rel=1e-5)
