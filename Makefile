# Edge Gateway: `make run` shows it, `make test` proves it, `make help` lists the rest.
SHELL := /bin/sh
GO ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
export CGO_ENABLED ?= 0
# On amd64 the kernels of infer/train are built in; the processor's features
# choose among them at run time, and gonum where it has none of them.
simd = $(if $(filter amd64,$(1)),GOEXPERIMENT=simd)
# Debian packages that the tests use: a C compiler, foreign brokers and clients,
# the target libraries for arm64, the quick JPEG decoder, flatc, a reader of
# videos, the pictures of Fashion-MNIST.
APT = gcc libc6-dev mosquitto mosquitto-clients qemu-user-static libc6-arm64-cross libstdc++6-arm64-cross libturbojpeg0 flatbuffers-compiler ffmpeg dataset-fashion-mnist

.PHONY: help run demo-fl test build bench lint fuzz setup cross notices clean
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## fetch, build and show the gateway at work on real pictures and readings
	@EDGEGATEWAY_CACHE=$$(scripts/setup.sh all) && export EDGEGATEWAY_CACHE && exec bin/edgegateway demo

demo-fl: build ## show five gateways learn a common model, each from digits of its own
	@EDGEGATEWAY_CACHE=$$(scripts/setup.sh all) && export EDGEGATEWAY_CACHE && exec bin/edgegateway demo fl

build: setup ## build bin/edgegateway, one file with the TFLite library inside
	@echo "building bin/edgegateway with $$($(GO) env GOVERSION)"
	@$(call simd,$(shell $(GO) env GOARCH)) $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/edgegateway . && ls -l bin/edgegateway | awk '{printf "built bin/edgegateway, %.1f MB\n", $$5/1e6}'

setup:
	@cache=$$(scripts/setup.sh build) && test ! -e infer/tflite/lib/pack.go || $(GO) run ./infer/tflite/lib/pack.go "$$cache" infer/tflite/lib

cross: setup ## build dist/ for linux/amd64, linux/arm64 and darwin/arm64
	@mkdir -p dist; for t in linux/amd64 linux/arm64 darwin/arm64; do \
		o=dist/edgegateway-$$(echo $$t | tr / -); \
		simd=; test $${t#*/} != amd64 || simd=simd; \
		GOEXPERIMENT=$$simd GOOS=$${t%/*} GOARCH=$${t#*/} $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $$o . || exit 1; echo built $$o; done

test: setup ## all tests; as root installs what they need, else says the apt line
	@scripts/test.sh "$(APT)"

bench: build ## the benchmarks: Go's, then the whole way through the broker
	@$(GO) test -run '^$$' -bench . -benchmem ./... | grep -v 'no test files'
	@cache=$$(scripts/setup.sh all) && bin/edgegateway bench --model $$cache/demo/face_detection_short_range.tflite --output blazeface --picture $$cache/demo/sample1.jpg

lint: ## gofmt, vet, staticcheck
	@bad=$$(gofmt -l .); test -z "$$bad" || { echo "gofmt: $$bad"; exit 1; }
	@$(GO) vet ./...
	@$(GO) run $(STATICCHECK) ./...

fuzz: ## fuzz each target for a while: make fuzz SECONDS_EACH=60
	@scripts/fuzz.sh $(or $(SECONDS_EACH),60)

notices: ## write THIRD_PARTY_NOTICES from what is linked
	@$(GO) run scripts/notices.go

clean: ## remove what was built
	rm -rf bin dist
