// A delegate in a library of its own, as an accelerator's maker delivers it.
// It computes float32 FULLY_CONNECTED layers, and the one operator of the
// compiled twin of the model dense_int8, by itself, and misbehaves on demand.
//
// Options: mode, at, control, log. The modes are works, refuse (it cannot be
// created), reject (it takes no model), fail, wrong and crash (in the at-th
// Invoke of a delegate and after it), here (wrong in the process that has the
// number at), destroy (it crashes when it is freed). A
// control file, where there is one, holds the mode that counts now. The log
// gets a line "EVENT PID" for each creation and destruction.
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tensorflow/lite/c/common.h"

enum { kFullyConnected = 9, kDelegate = 51, kMost = 16 };

typedef struct {
  TfLiteDelegate base;
  char mode[32], control[512], log[512];
  int at, invokes;
} Plugin;

typedef struct {
  int input, weights, bias, output, relu, custom;
} Layer;

typedef struct {
  Plugin* plugin;
  Layer layers[kMost];
  int count;
} Kernel;

static int live_delegates, live_kernels;
int test_live_delegates(void) { return __atomic_load_n(&live_delegates, __ATOMIC_SEQ_CST); }
int test_live_kernels(void) { return __atomic_load_n(&live_kernels, __ATOMIC_SEQ_CST); }

static int is(Plugin* p, const char* mode) {
  FILE* f = p->control[0] ? fopen(p->control, "r") : NULL;
  if (f) {
    char now[32];
    if (fscanf(f, "%31s", now) == 1) strcpy(p->mode, now);
    fclose(f);
  }
  return strcmp(p->mode, mode) == 0;
}

static void note(Plugin* p, const char* event) {
  FILE* f = p->log[0] ? fopen(p->log, "a") : NULL;
  if (!f) return;
  fprintf(f, "%s %d\n", event, getpid());
  fclose(f);
}

static void* kernel_init(TfLiteContext* context, const char* buffer, size_t length) {
  const TfLiteDelegateParams* params = (const TfLiteDelegateParams*)buffer;
  Kernel* k = calloc(1, sizeof *k);
  k->plugin = (Plugin*)params->delegate->data_;
  for (int i = 0; i < params->nodes_to_replace->size; i++) {
    TfLiteNode* node;
    TfLiteRegistration* r;
    context->GetNodeAndRegistration(context, params->nodes_to_replace->data[i], &node, &r);
    Layer* l = &k->layers[k->count++];
    l->input = node->inputs->data[0];
    l->output = node->outputs->data[0];
    l->custom = r->builtin_code != kFullyConnected;
    if (l->custom) continue;
    l->weights = node->inputs->data[1];
    l->bias = node->inputs->size > 2 ? node->inputs->data[2] : -1;
    l->relu = *(const int*)node->builtin_data == 1;
  }
  __atomic_add_fetch(&live_kernels, 1, __ATOMIC_SEQ_CST);
  return k;
}

static void kernel_free(TfLiteContext* context, void* data) {
  free(data);
  __atomic_sub_fetch(&live_kernels, 1, __ATOMIC_SEQ_CST);
}

static TfLiteStatus kernel_prepare(TfLiteContext* context, TfLiteNode* node) { return kTfLiteOk; }

// dense_int8 by hand: weights 1, 2, ... 12 in steps of 1 (10 of 0.1), input in
// steps of 0.5, output in steps of 4.
static void custom(const int8_t* x, int8_t* y) {
  for (int o = 0; o < 3; o++) {
    int sum = o + 1;
    for (int i = 0; i < 4; i++) sum += 10 * (4 * o + i + 1) * x[i];
    double q = rint(sum * 0.05 / 4);
    y[o] = q > 127 ? 127 : q < -128 ? -128 : q;
  }
}

static TfLiteStatus kernel_invoke(TfLiteContext* context, TfLiteNode* node) {
  Kernel* k = node->user_data;
  Plugin* p = k->plugin;
  int bad = ++p->invokes >= p->at, wrong = (bad && is(p, "wrong")) || (is(p, "here") && getpid() == p->at);
  if (bad && is(p, "fail")) {
    context->ReportError(context, "the device is gone");
    return kTfLiteError;
  }
  if (bad && is(p, "crash")) raise(SIGSEGV);
  float a[64], b[64], *from = a, *to = b;
  for (int n = 0; n < k->count; n++) {
    Layer* l = &k->layers[n];
    const TfLiteTensor* in = &context->tensors[l->input];
    TfLiteTensor* out = &context->tensors[l->output];
    if (l->custom) {
      custom(in->data.int8, out->data.int8);
      if (wrong) out->data.int8[0] ^= 64;
      continue;
    }
    const TfLiteTensor* w = &context->tensors[l->weights];
    int rows = w->dims->data[0], columns = w->dims->data[1];
    if (rows > 64 || columns > 64) return kTfLiteError;
    const float* x = n == 0 ? in->data.f : from;
    for (int o = 0; o < rows; o++) {
      float sum = l->bias < 0 ? 0 : context->tensors[l->bias].data.f[o];
      for (int i = 0; i < columns; i++) sum += w->data.f[o * columns + i] * x[i];
      to[o] = l->relu && sum < 0 ? 0 : sum;
    }
    if (n == k->count - 1) {
      memcpy(out->data.f, to, rows * sizeof *to);
      if (wrong) out->data.f[0] += 3;
    }
    float* t = from;
    from = to, to = t;
  }
  return kTfLiteOk;
}

static TfLiteStatus prepare(TfLiteContext* context, TfLiteDelegate* delegate) {
  Plugin* p = (Plugin*)delegate->data_;
  if (is(p, "reject")) {
    context->ReportError(context, "no model pleases this device");
    return kTfLiteError;
  }
  TfLiteIntArray* plan;
  if (context->GetExecutionPlan(context, &plan) != kTfLiteOk || plan->size > kMost) return kTfLiteError;
  size_t size = sizeof(TfLiteIntArray) + plan->size * sizeof(int);
  TfLiteIntArray* nodes = memcpy(malloc(size), plan, size);
  for (int i = 0; i < nodes->size; i++) {
    TfLiteNode* node;
    TfLiteRegistration* r;
    context->GetNodeAndRegistration(context, nodes->data[i], &node, &r);
    if (r->builtin_code != kFullyConnected && !(r->custom_name && strcmp(r->custom_name, "edgetpu-custom-op") == 0)) {
      context->ReportError(context, "operator %d is not for this device", r->builtin_code);
      free(nodes);
      return kTfLiteError;
    }
  }
  TfLiteRegistration kernel = {0};
  kernel.init = kernel_init;
  kernel.free = kernel_free;
  kernel.prepare = kernel_prepare;
  kernel.invoke = kernel_invoke;
  kernel.builtin_code = kDelegate;
  kernel.custom_name = "TestDevice";
  kernel.version = 1;
  TfLiteStatus status = context->ReplaceNodeSubsetsWithDelegateKernels(context, kernel, nodes, delegate);
  free(nodes);
  return status;
}

TfLiteDelegate* tflite_plugin_create_delegate(char** keys, char** values, size_t count, void (*report_error)(const char*)) {
  Plugin* p = calloc(1, sizeof *p);
  strcpy(p->mode, "works");
  for (size_t i = 0; i < count; i++) {
    if (strcmp(keys[i], "mode") == 0) {
      snprintf(p->mode, sizeof p->mode, "%s", values[i]);
    } else if (strcmp(keys[i], "at") == 0) {
      p->at = atoi(values[i]);
    } else if (strcmp(keys[i], "control") == 0) {
      snprintf(p->control, sizeof p->control, "%s", values[i]);
    } else if (strcmp(keys[i], "log") == 0) {
      snprintf(p->log, sizeof p->log, "%s", values[i]);
    } else {
      report_error("an option is unknown");
      free(p);
      return NULL;
    }
  }
  note(p, "create");
  if (is(p, "refuse")) {
    report_error("there is no device");
    free(p);
    return NULL;
  }
  p->base.data_ = p;
  p->base.Prepare = prepare;
  // As Coral's does: without it the runtime prepares the custom operator first.
  p->base.flags = kTfLiteDelegateFlagsAllowDynamicTensors;
  __atomic_add_fetch(&live_delegates, 1, __ATOMIC_SEQ_CST);
  return &p->base;
}

void tflite_plugin_destroy_delegate(TfLiteDelegate* delegate) {
  Plugin* p = (Plugin*)delegate->data_;
  note(p, "destroy");
  if (is(p, "destroy")) raise(SIGSEGV);
  free(p);
  __atomic_sub_fetch(&live_delegates, 1, __ATOMIC_SEQ_CST);
}
