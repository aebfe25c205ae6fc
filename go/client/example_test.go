package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"smol.local/smol/client"
	"smol.local/smol/wire"
)

// Evaluation is the part of math.evaluate's result that is wanted.
type Evaluation struct {
	Exact   string `json:"exact"`
	Decimal string `json:"decimal"`
}

func ExampleCall() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	answer, err := client.Call[Evaluation](ctx, "math.evaluate", client.Args{"expression": "2/3"})
	if errors.Is(err, wire.Unavailable) {
		fmt.Println("start a host with 'smol serve'")
		return
	}
	fmt.Println(answer.Exact, err)
}

func ExampleClient_Call() {
	ctx := context.Background()
	c, err := client.Connect(ctx, "")
	if err != nil {
		panic(err)
	}
	defer c.Close()
	photo, err := os.ReadFile("street.jpg")
	if err != nil {
		panic(err)
	}
	var found struct {
		Objects []struct {
			Label string  `json:"label"`
			Score float64 `json:"score"`
		} `json:"objects"`
	}
	image := &client.Attachment{Data: photo, MediaType: "image/jpeg"}
	if err := c.Call(ctx, "detect.image", client.Args{"image": image}, &found); err != nil {
		panic(err)
	}
	fmt.Println(found.Objects)
}

func ExampleClient_Events() {
	ctx := context.Background()
	c, err := client.Connect(ctx, "")
	if err != nil {
		panic(err)
	}
	defer c.Close()
	for event, err := range c.Events(ctx, "host.*", nil) {
		if err != nil {
			panic(err)
		}
		fmt.Println(event.Topic, event.Data)
	}
}
