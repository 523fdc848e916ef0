package model

import (
	"reflect"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"

	"edgegateway/infer/model/internal/schema"
)

// Every vector of every options table is found where the generated code keeps
// it, and one that claims more than the file holds is refused before room is
// made for it.
func TestOptionVectors(t *testing.T) {
	vectors := 0
	for kind := range schema.EnumNamesBuiltinOptions {
		vectors += optionVectors(t, kind.String(), kind.UnPack(noFields), func(t flatbuffers.Table) any { return kind.UnPack(t) })
	}
	for kind := range schema.EnumNamesBuiltinOptions2 {
		vectors += optionVectors(t, kind.String(), kind.UnPack(noFields), func(t flatbuffers.Table) any { return kind.UnPack(t) })
	}
	if vectors < 40 {
		t.Errorf("only %d vectors", vectors)
	}
}

func optionVectors(t *testing.T, name string, like any, unpack func(flatbuffers.Table) any) (vectors int) {
	u := reflect.Indirect(reflect.ValueOf(like))
	if !u.IsValid() {
		return 0
	}
	pointer := u.FieldByName("Value").Elem()
	v := pointer.Elem()
	for i := range v.NumField() {
		if v.Field(i).Kind() != reflect.Slice {
			continue
		}
		vectors++
		v.Field(i).Set(reflect.MakeSlice(v.Field(i).Type(), 1, 1))
		b := flatbuffers.NewBuilder(64)
		b.Finish(pointer.Interface().(interface {
			Pack(*flatbuffers.Builder) flatbuffers.UOffsetT
		}).Pack(b))
		v.Field(i).SetZero()
		data := b.FinishedBytes()
		table := flatbuffers.Table{Bytes: data, Pos: flatbuffers.GetUOffsetT(data)}
		slot := table.Offset(flatbuffers.VOffsetT(4 + 2*i))
		if slot == 0 || table.VectorLen(flatbuffers.UOffsetT(slot)) != 1 {
			t.Errorf("%s: %s is not in slot %d", name, v.Type().Field(i).Name, i)
			continue
		}
		r := reader{data: data, budget: 1 << 20}
		if !r.vectors(table, unpack(noFields)) || r.err != nil {
			t.Errorf("%s: %s refused: %v", name, v.Type().Field(i).Name, r.err)
		}
		flatbuffers.WriteUint32(data[table.Vector(flatbuffers.UOffsetT(slot))-4:], 1<<30)
		if r.vectors(table, unpack(noFields)) || r.err == nil {
			t.Errorf("%s: %s of 2^30 elements is taken", name, v.Type().Field(i).Name)
		}
	}
	return vectors
}
