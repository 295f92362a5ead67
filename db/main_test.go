package db_test

import (
	"testing"

	"github.com/seed-245eaa15/obs/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
