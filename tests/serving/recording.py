"""A model that is watched, and held, while its answer grows."""

import threading

from noria.serving.predictor import Predictor


class Recording(Predictor):
    """Remembers what was computed together, and waits before the second beginning until `go_on` is set."""

    def __init__(self, bundle):
        super().__init__(bundle)
        self.batches = []
        self.go_on = threading.Event()
        self.go_on.set()

    def answer_encoded(self, batch):
        asked = [e.pieces[0].get("max_new_tokens") for e in batch]
        texts = [e.row.get("prompt") or e.row["source"] for e in batch]
        self.batches.append(
            [(text, None if n is None else int(n.item())) for text, n in zip(texts, asked, strict=True)]
        )
        if len(self.batches) > 1 and batch[0].is_beginning:
            assert self.go_on.wait(timeout=20)
        return super().answer_encoded(batch)
