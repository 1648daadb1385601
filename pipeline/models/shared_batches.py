"""A Trainer whose processes share the rows of each batch: several compute what one does.

Every process reads every batch of `num_processes` times the batch size of a device and computes a
share of its rows. Gradients, losses and predictions are summed over the processes. No row is
repeated to fill a batch, and losses are divided by what the whole batch holds.
"""

import torch
from accelerate.data_loader import prepare_data_loader
from torch import distributed
from torch.utils.data import DataLoader, RandomSampler, Sampler
from transformers import TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import TrainOutput

from pipeline.common.processes import num_processes, process_index
from pipeline.models.checkpoints import ResumableTrainer


class SharedBatchTrainer(ResumableTrainer):
    """A Trainer that gives this process every batch; its subclasses compute `own_rows` of it.

    Their `prediction_step` returns a loss for each row, since the Trainer takes the mean of all.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.add_callback(OwnDropout)

    def get_train_dataloader(self) -> DataLoader:
        rows, args = self.train_dataset, self.args
        if args.train_sampling_strategy == "group_by_length":
            lengths = [len(row["input_ids"]) for row in rows]
            group = args.train_batch_size * num_processes() * args.gradient_accumulation_steps
            sampler = GroupedByLength(group, lengths=lengths, seed=args.seed)
        else:
            sampler = RandomSampler(rows)
        return self._loader(rows, args.train_batch_size, sampler)

    def get_eval_dataloader(self, eval_dataset=None) -> DataLoader:
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        longest_first = sorted(range(len(rows)), key=lambda row: -len(rows[row]["input_ids"]))
        return self._loader(rows, self.args.eval_batch_size, longest_first)

    def _loader(
        self, rows: list[dict], batch_size: int, sampler: Sampler | list[int]
    ) -> DataLoader:
        loader = DataLoader(
            rows,
            batch_size=batch_size * num_processes(),
            sampler=sampler,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return prepare_data_loader(
            loader,
            self.args.device,
            num_processes=1,  # the batches are not dealt out to the processes
            process_index=0,
            put_on_device=True,
            use_seedable_sampler=True,
            data_seed=self.args.seed,
        )

    def train(self, *args, **kwargs) -> TrainOutput:
        """Train; every process then has the best weights, as the main one has read them."""
        output = super().train(*args, **kwargs)
        if num_processes() > 1:
            for weight in self.trained_weights():
                distributed.broadcast(weight.data, 0)
        return output

    def evaluation_loop(self, *args, **kwargs):
        self.gather_function = lambda values: values  # a step's are those of all processes
        return super().evaluation_loop(*args, **kwargs)

    def sum_gradients(self) -> None:
        """Sum the gradients of what is trained over the processes, at the end of an optimizer step.

        The model is called without the wrapper that would average them in each backward pass.
        """
        if num_processes() == 1 or not self.accelerator.sync_gradients:
            return
        trained = self.trained_weights()
        for weight in trained:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        flat = torch.cat([weight.grad.flatten() for weight in trained])
        distributed.all_reduce(flat)
        parts = flat.split([weight.numel() for weight in trained])
        for weight, part in zip(trained, parts, strict=True):
            weight.grad.copy_(part.view_as(weight.grad))

    def trained_weights(self) -> list[torch.nn.Parameter]:
        return [weight for weight in self.model.parameters() if weight.requires_grad]


def own_rows(lengths: list[int]) -> list[int]:
    """Return which rows of a batch this process computes, by the lengths of all of them.

    They are dealt out by turns, the longest first, and stand in the order of the batch.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    return sorted(order[process_index() :: num_processes()])


def summed(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over the processes."""
    if num_processes() > 1:
        distributed.all_reduce(values)
    return values


def of_all_rows(own: list[int] | slice, values: torch.Tensor, num_rows: int) -> torch.Tensor:
    """Return what the processes computed for their own rows, (num_rows, ...), in the batch's order.

    `values` (len(own), ...) are this process's.
    """
    whole = values.new_zeros(num_rows, *values.shape[1:])
    whole[own] = values
    return summed(whole)


class GroupedByLength(LengthGroupedSampler):
    """Rows of similar length together, in an order that depends on seed and epoch alone."""

    def __init__(self, batch_size: int, lengths: list[int], seed: int):
        super().__init__(batch_size, lengths=lengths)
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        self.generator = torch.Generator().manual_seed(self.seed + epoch)


class OwnDropout(TrainerCallback):
    """Lets each process but the first draw masks of its own, from the seed and its number."""

    def on_train_begin(self, args, state, control, **kwargs):
        if process_index():
            torch.manual_seed(args.seed + process_index())
