// The part of a newer library that makes XNNPACK's delegate, with its options
// as they are laid out there: NEWER has a word more, OTHER is one that nobody
// knows yet. It has no kernels.
#include <stdint.h>
#include <stdlib.h>

typedef struct {
  int32_t num_threads;
#ifdef NEWER
  uint32_t runtime_flags;
#endif
#ifdef OTHER
  uint32_t words[8];
#endif
  uint32_t flags;
  void* weights_cache;
  char more[200];
} Options;

static int live;
int test_live(void) { return live; }

Options* TfLiteXNNPackDelegateCreate(const Options* o) {
  if (o->weights_cache != NULL) abort();
  Options* d = malloc(sizeof *d);
  *d = *o;
  live++;
  return d;
}

int TfLiteXNNPackDelegateGetFlags(Options* d) { return d->flags | 16; }
int test_threads(Options* d) { return d->num_threads; }

void TfLiteXNNPackDelegateDelete(Options* d) {
  free(d);
  live--;
}
