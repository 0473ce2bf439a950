package main

import (
	"slices"
	"strings"
)

// owners says to which function of the verdict a helper belongs. A function that
// is not here belongs to itself, a method to its type or to itself.
var owners = map[string]string{
	// json.go
	"readJSON": "jsonReader", "fieldError.Error": "jsonReader", "plainKey": "jsonReader", "quote": "jsonReader", "clip": "jsonReader",
	"maxJSONDepth": "jsonReader", "keyStep": "jsonReader", "jsonStep": "jsonReader",
	// safetensors.go
	"splitSafetensors": "ParseSafetensors", "readEntry": "ParseSafetensors", "cutTensors": "ParseSafetensors", "byteSize": "ParseSafetensors",
	"sizeText": "ParseSafetensors", "shapeText": "ParseSafetensors", "badFile": "ParseSafetensors", "dtypeBits": "ParseSafetensors",
	"DType.Size": "ParseSafetensors", "maxHeader": "ParseSafetensors", "maxTensors": "ParseSafetensors",
	"appendJSON": "WriteSafetensors", "NewTensor": "WriteSafetensors",
	"Tensor.Float32": "widen",
	// config.go
	"configReader.field": "parseConfig", "configReader.finish": "parseConfig", "configReader.finishRope": "parseConfig", "configReader.finishYaRN": "parseConfig",
	"refuseSwitch": "parseConfig", "readRope": "parseConfig", "readSize": "parseConfig", "readPositive": "parseConfig", "readIDs": "parseConfig",
	"number": "parseConfig", "decimal": "parseConfig", "maxSize": "parseConfig", "maxStopIDs": "parseConfig",
	// tokenizer.go, tokenizer_load.go, split.go, chat.go
	"segment": "normalize", "compose": "normalize", "inert": "normalize",
	"classes": "splitter", "contraction": "splitter", "letters16": "splitter", "numbers16": "splitter", "lateSymbols": "splitter", "isSymbol": "splitter",
	"tokenizerFile.read": "parseTokenizer", "tokenizerFile.addedToken": "parseTokenizer", "tokenizerFile.id": "parseTokenizer",
	"tokenizerFile.model": "parseTokenizer", "tokenizerFile.merge": "parseTokenizer", "fields": "parseTokenizer", "typed": "parseTokenizer",
	"byteLevel": "parseTokenizer", "expectString": "parseTokenizer", "expectFalse": "parseTokenizer", "expectNone": "parseTokenizer", "preTokenizer": "parseTokenizer",
	"Tokenizer.addVocab": "parseTokenizer", "Tokenizer.addMerges": "parseTokenizer", "Tokenizer.addAdded": "parseTokenizer",
	"byteLetters": "parseTokenizer", "letterBytes": "parseTokenizer", "appendBytes": "parseTokenizer", "newPairTable": "parseTokenizer",
	"pairTable.add": "parseTokenizer", "pairTable.slot": "parseTokenizer", "maxTokens": "parseTokenizer", "maxEntries": "parseTokenizer", "maxAddedBytes": "parseTokenizer",
	"pairTable.rank": "parseTokenizer", "queue.push": "encoder", "queue.pop": "encoder", "cacheBits": "encoder", "cachedPiece": "encoder",
	"Tokenizer.encode": "Tokenizer.Encode", "every": "Tokenizer.Encode", "checkSize": "Tokenizer.Encode",
	"Tokenizer.DecodeText": "Tokenizer.Decode", "toText": "Tokenizer.Decode", "Tokenizer.Bytes": "Tokenizer.Decode", "Tokenizer.ID": "Tokenizer.Decode",
	"Tokenizer.Special": "Tokenizer.Decode", "Tokenizer.Len": "Tokenizer.Decode",
	"Template.parts": "Template.Render", "Template.check": "Template.Render", "lastQuestion": "Template.Render", "splitThought": "Template.Render", "turnForm": "templateFor", "onlySystem": "templateFor",
	// load.go, file.go
	"LoadError.Error": "LoadError", "LoadError.Unwrap": "LoadError", "inFile": "LoadError", "plainText": "LoadError", "reason": "folder", "modeName": "folder", "openPlain": "folder", "mapPlain": "folder",
	"folder.config": "load", "folder.tokenizer": "load", "folder.weights": "load", "folder.shard": "load", "folder.shards": "load", "folder.template": "load",
	"folder.ownTemplate": "load", "Load": "load", "LoadFS": "load", "LoadTokenizerFS": "load", "LoadTemplate": "load", "LoadTemplateFS": "load",
	"Model.Close": "load", "errNoFS": "load", "folder.absent": "load", "folder.dangling": "load", "catchFault": "load", "maxConfigFile": "load",
	"leavesFolder": "parseIndex", "maxShards": "parseIndex",
	"connector.take": "Model.connect", "connector.has": "Model.connect", "layerOf": "Model.connect", "connector.matrix": "Model.connect", "connector.vector": "Model.connect", "Model.Tensors": "Model.connect", "Model.Parameters": "Model.connect",
	// the network
	"help": "parallel", "region": "parallel", "share": "parallel", "helperPatience": "parallel", "pause": "parallel", "region.run": "parallel", "workRange": "parallel", "region.do": "parallel", "open": "parallel", "helpers": "parallel", "rmsScale": "RMSNorm", "sumSquares": "RMSNorm", "Matrix.Row": "NewMatrix", "Matrix.rowTo": "NewMatrix", "bfloat16": "widen", "Matrix.check": "Linear",
	"lanes.add": "lanes", "lanes.sum": "lanes",
	// the table of kernels: any of the functions in it
	"kernels": "tile", "current": "tile", "widenF32": "kernel.widen", "prefetchFloats": "Linear", "attentionRows": "attentionValues", "machineKernels": "tile",
	"kernel.dots": "kernel.dots", "Kernel": "kernel.dots", "rowMultiple": "kernel.dots", "dotRows": "kernel.dots",
	"padRows": "Linear", "Matrix.multiply": "Linear", "Matrix.dots": "Linear", "panelRows": "Linear", "panel.widen": "Linear", "panel.multiply": "Linear", "panelColumns": "Linear", "panels": "Linear", "Matrix.pieceRows": "Linear", "streamRows": "Linear", "pieceColumns": "Linear", "cutColumns": "Linear", "Matrix.prefetch": "Linear", "floats": "Linear", "recycle": "Linear", "recycled": "Linear", "maxRecycled": "Linear", "dropRecycled": "Linear", "Rotary.stretchYaRN": "NewRotary", "yarnAttentionFactor": "NewRotary",
	"streams": "attentionScores", "softmax": "Softmax", "applySiLU": "SiLU", "residual": "add", "exp": "softmaxGeneric", "powerOf2": "softmaxGeneric", "expLow": "softmaxGeneric", "expTable": "softmaxAVX2",
	"fill": "attentionScores", "grow": "attentionScores", "tileBuffers": "attentionScores", "attentionTokens": "Attention", "checkAttention": "Attention", "attend": "Attention", "attentionBuffer": "Attention", "attentionBuffers": "Attention", "Model.NewCache": "Cache", "Cache.extend": "Cache", "Cache.Reserve": "Cache", "Cache.reserve": "Cache",
	"Model.forward": "Model.Forward", "finite": "Model.checkFinite", "Model.blame": "Model.checkFinite",
	// sample.go, generate.go
	"Sampling.choose": "Sampling.Filter", "removed": "Sampling.Filter",
	"Model.generate": "Model.Generate", "Options.check": "Model.Generate", "wholeCharacters": "textStream", "PrefillChunk": "Model.forwardPieces",
	"Model.ChatIDs": "Model.Chat",
	// trace.go
	"NewRecording": "Recording", "newRecording": "Recording", "readTensors": "Recording", "recordingFiles": "Recording", "checkBytes": "Recording", "ReadRecording": "Recording", "ParseRenames": "Recording", "integers": "Recording", "numbers": "Recording",
	"Recording.All": "Recording", "Model.Record": "Recording", "groupNumber": "Recording", "maxRecording": "Recording", "Rename": "Recording",
	// diagnose.go
	"inputOf": "placeOf", "layerName": "placeOf", "stateName": "placeOf", "foreignName": "placeOf", "debuggerName": "placeOf", "debuggerMore": "placeOf",
	"place.name": "placeOf", "parent": "placeOf", "place": "plain", "blockOutput": "plain", "step": "plain", "steps": "plain", "isStep": "placeOf", "Model.places": "plain", "Model.shape": "plain",
	"Model.norm": "plain", "Model.linear": "plain", "newPlain": "plain", "memoKey": "plain", "wide": "plain", "dotExact": "plain", "causal": "plain", "silu": "plain", "turn": "plain",
	"precision": "yardstick", "inFloat64": "yardstick", "roundBF16": "yardstick", "roundF16": "yardstick", "noise": "yardstick", "distance": "yardstick", "distance.relative": "yardstick", "subject": "yardstick",
	"patch": "plain.find", "patch.hits": "plain.find", "everyLayer": "plain.find", "plain.trial": "plain.find", "trial.compute": "plain.find", "trial.input": "plain.find", "trial.isChanged": "plain.find",
	"plain.cone": "plain.find", "plain.try": "plain.find", "plain.fitted": "plain.find", "plain.improve": "plain.find", "plain.nice": "plain.find", "plain.callOf": "plain.find", "finding": "plain.find",
	"finding.says": "plain.find", "start": "plain.find", "closer": "plain.find", "patch.with": "plain.find", "plain.yards": "plain.find", "plain.reproduces": "plain.find", "plain.residual": "plain.find", "plain.measure": "yardstick", "mistake.sites": "plain.find", "layersOf": "plain.find", "likely": "plain.find", "leftover": "plain.find", "compareFloat": "plain.find", "roundTo": "plain.find", "trial": "plain.find",
	// mistakes.go
	"mistakes": "mistake", "mistakeOf": "mistake", "asTried": "mistake", "fitting": "mistake", "allNorms": "mistake", "activations": "mistake", "grid": "mistake", "constants": "mistake", "count01": "mistake", "count": "mistake",
	"ones": "mistake", "plusOne": "mistake", "reversed": "mistake", "namedMatrix": "mistake",
	// report.go
	"CompareOptions.Compare": "Compare", "fitShape": "Compare", "fingerprint": "Compare", "towardsZero": "Compare", "worst": "Compare", "nonFinite": "Compare", "finding.number": "Compare", "finding.saying": "Compare",
	"change": "Compare", "inOrder": "Compare", "depth": "Compare", "sameShape": "Compare", "shown": "Compare", "counted": "Compare", "TensorReport.differences": "Compare", "Report": "Compare", "Finding": "Compare", "TensorReport": "Compare", "Spot": "Compare", "CompareOptions": "Compare", "comparison": "Compare",
	"Growth": "Growth.fit", "LayerGrowth": "Growth.fit", "line": "Growth.fit", "mean": "Growth.fit", "squares": "Growth.fit",
	// page.go
	"mostRows": "Report.String", "Report.counts": "Report.String", "Report.around": "Report.String", "Report.writeRows": "Report.String", "Report.writeGrowth": "Report.String",
	"Number": "Report.String", "Number.String": "Report.String", "Number.MarshalJSON": "Report.String", "cosineText": "Report.String", "Growth.rateText": "Report.String",
	"pageHead": "Report.HTML", "logScale": "Report.HTML", "newLogScale": "Report.HTML", "logScale.y": "Report.HTML", "Report.growthChart": "Report.HTML", "shortLayer": "Report.HTML",
	"colour": "Report.HTML", "Report.strip": "Report.HTML", "Report.positions": "Report.HTML", "Report.table": "Report.HTML",
}

// ofCall are the functions of a call that the plain network is made of; the others
// are the mistakes'.
var ofCall = []string{"get", "right", "unturned", "eps", "vector", "scale", "group", "r", "each", "sum", "times", "rows", "rms", "project", "linear",
	"frequencies", "halves", "turn", "turnScaled", "attend", "dot", "mix"}

// inTable are the functions that the table of kernels holds: a fault in the table
// may show as a fault of any of them.
var inTable = []string{"kernel.dots", "kernel.widen", "tile", "dotsGeneric", "dotsBF16Generic", "widenGeneric", "tileGeneric",
	"dotsF32AVX2", "dotsF16AVX2", "dotsBF16AVX2", "widenF16AVX2", "widenBF16AVX2", "tileAVX2", "tileAVX512", "widenF32",
	"mixGeneric", "mixAVX2", "mixAVX512", "keysAVX2", "valuesAVX2", "softmaxGeneric", "softmaxAVX2", "siluGeneric", "siluAVX2"}

// owner returns the function that the verdict should name.
func owner(function string) string {
	if o, ok := owners[function]; ok {
		return o
	}
	of, method, ok := strings.Cut(function, ".")
	if of == "call" {
		if slices.Contains(ofCall, method) {
			return "plain"
		}
		return "mistake"
	}
	if ok && slices.Contains([]string{"jsonReader", "folder", "splitter", "encoder", "textStream", "Trace", "Cache", "matcher", "comparison", "yardstick"}, of) && function != "Cache.continueWith" {
		if of == "comparison" {
			return "Compare"
		}
		return of
	}
	return function
}

// rightly says whether the verdict of a mutant that was caught names its function.
func (m *mutant) rightly() string {
	switch {
	case m.outcome != "caught":
		return ""
	case m.bug != nil && slices.Contains(m.bug.named, m.verdict), m.bug == nil && (m.verdict == owner(m.function) || m.verdict == m.function):
		return "named right"
	case m.verdict == "plain" && (strings.HasPrefix(m.function, "run.") || strings.HasPrefix(m.function, "plain.")): // the network is run by the same functions that the search runs it with
		return "named right"
	case m.function == "Template.parts" && m.verdict == "Tokenizer.EncodeChat": // what is content shows in the ids only
		return "named right"
	case (m.function == "kernels" || m.function == "current" || m.function == "kernel.dots" || m.function == "kernel.widen" || m.function == "machineKernels" || m.function == "rowMultiple" || m.function == "dotRows" || m.function == "expLow") && slices.Contains(inTable, m.verdict):
		return "named right"
	case m.verdict == "":
		return "no function named"
	}
	return "named wrong"
}
